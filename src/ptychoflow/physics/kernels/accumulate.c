/* Sums of overlapping patches at sub-pixel positions, each in one pass over memory, and their weighted mean.
 * They compute what the torch code of the functions of the same name computes (accumulate.py). */

#include <stdint.h>

/* Compile each kernel twice, with and without AVX2, where the loader can choose; both versions round alike. */
#if defined(__x86_64__) && defined(__GLIBC__) && __has_attribute(target_clones)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif
#define AHEAD 512 /* numbers to prefetch before they are read */

/* Interpolate between two numbers of this row, then between that and the one kept from the row above. */
static inline void interpolate(REAL *out, REAL *above, REAL own, REAL left, REAL down, REAL right)
{
    const REAL between = own + right * (left - own);
    *out += between + down * (*above - between);
    *above = between;
}

/* Along either axis, image[corner + n] += (1 - shift) * patch[n] + shift * patch[n - 1], with patch times weights and the
 * sub-pixel shift of its position. A pixel has `parts` numbers, 2 of a complex one. Where a shift is 0 nothing past the
 * patch is touched. 1 is added to hits at the position, shared likewise.
 * Returns 0, and changes nothing, if a patch would leave the image. */
WIDE int splat(int64_t height, int64_t width, int64_t count, int64_t size, int64_t parts, REAL *restrict image,
               REAL *restrict hits, const REAL *restrict patches, const REAL *restrict weights, const double *positions)
{
    const int64_t row = size * parts;
    for (int64_t k = 0; k < count; k++) {
        const double y = positions[2 * k] - size / 2, x = positions[2 * k + 1] - size / 2;
        if (!(y >= 0 && x >= 0 && y + size <= height && x + size <= width))
            return 0;
    }
    REAL above[row + parts];
    for (int64_t k = 0; k < count; k++) {
        const int64_t whole_y = positions[2 * k], whole_x = positions[2 * k + 1];
        const REAL down = positions[2 * k] - whole_y, right = positions[2 * k + 1] - whole_x;
        const int64_t reach = right > 0 ? row + parts : row;
        REAL *restrict out = image + ((whole_y - size / 2) * width + whole_x - size / 2) * parts;
        REAL *hit = hits + whole_y * width + whole_x;
        hit[0] += (1 - down) * (1 - right);
        if (right > 0)
            hit[1] += (1 - down) * right;
        if (down > 0)
            hit[width] += down * (1 - right);
        if (down > 0 && right > 0)
            hit[width + 1] += down * right;
        for (int64_t i = 0; i < reach; i++)
            above[i] = 0;
        for (int64_t y = 0; y < size; y++, patches += row, out += width * parts) {
            const REAL *restrict gain = weights + y * row;
            for (int64_t i = 0; i < row; i += 16)
                __builtin_prefetch(patches + AHEAD + i);
            if (down == 0 && right == 0) {
                for (int64_t i = 0; i < row; i++)
                    out[i] += patches[i] * gain[i];
                continue;
            }
            for (int64_t i = 0; i < parts; i++)
                interpolate(out + i, above + i, patches[i] * gain[i], 0, down, right);
            for (int64_t i = parts; i < row; i++)
                interpolate(out + i, above + i, patches[i] * gain[i], patches[i - parts] * gain[i - parts], down, right);
            for (int64_t i = row; i < reach; i++)
                interpolate(out + i, above + i, 0, patches[i - parts] * gain[i - parts], down, right);
        }
        if (down > 0)
            for (int64_t i = 0; i < reach; i++)
                out[i] += down * above[i];
    }
    return 1;
}

/* sums[y, x] += points[Y, X] * weights[y - Y + size / 2, x - X + size / 2], for all Y and X.
 * Row 0 of points is row `first` of sums. */
WIDE void convolve_points(int64_t width, int64_t height, int64_t first, int64_t rows, int64_t size,
                          REAL *restrict sums, const REAL *restrict points, const REAL *restrict weights)
{
    for (int64_t i = 0; i < rows * width; i++) {
        const REAL point = points[i];
        if (point == 0)
            continue;
        const int64_t top = first + i / width - size / 2, left = i % width - size / 2;
        const int64_t begin = left < 0 ? -left : 0, end = left + size > width ? width - left : size;
        for (int64_t y = top < 0 ? -top : 0; y < size && top + y < height; y++) {
            REAL *restrict out = sums + (top + y) * width;
            for (int64_t x = begin; x < end; x++)
                out[left + x] += point * weights[y * size + x];
        }
    }
}

/* Divide each complex total by its weight where that is above the floor; set it to 1 elsewhere. */
WIDE void divide(int64_t count, REAL *restrict total, const float *restrict weight, float floor, uint8_t *restrict known)
{
    for (int64_t i = 0; i < count; i++)
        known[i] = weight[i] > floor;
    for (int64_t i = 0; i < count; i++) {
        const REAL by = weight[i] > floor ? weight[i] : 1;
        const REAL real = total[2 * i] / by, imaginary = total[2 * i + 1] / by;
        total[2 * i] = weight[i] > floor ? real : 1;
        total[2 * i + 1] = weight[i] > floor ? imaginary : 0;
    }
}
