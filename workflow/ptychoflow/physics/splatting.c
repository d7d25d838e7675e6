/* Patches added to an image between pixels, in one pass: each stays in the cache and no index of a pixel is made. */

#include <stdint.h>

/* Along either axis, image[corner + n] += (1 - rest) * patch[n] + rest * patch[n - 1], with patch times weights.
 * A pixel is as many numbers as there are parts, 2 of a complex one. Where a rest is 0 nothing past the patch is touched. */
void splat(int64_t width, int64_t count, int64_t size, int64_t parts, REAL *restrict image,
           const REAL *restrict patches, const REAL *restrict weights, const int64_t *corners, const REAL *rests)
{
    const int64_t row = size * parts;
    REAL now[row + 2 * parts], above[row + parts]; /* this row of the patch between zeros, and the moved one above it */
    for (int64_t i = 0; i < parts; i++)
        now[i] = now[parts + row + i] = 0;
    for (int64_t k = 0; k < count; k++) {
        const REAL down = rests[2 * k], right = rests[2 * k + 1];
        const int64_t reach = right > 0 ? row + parts : row;
        REAL *out = image + (corners[2 * k] * width + corners[2 * k + 1]) * parts;
        for (int64_t i = 0; i < reach; i++)
            above[i] = 0;
        for (int64_t y = 0; y < size; y++, patches += row, out += width * parts) {
            for (int64_t i = 0; i < row; i++)
                now[parts + i] = patches[i] * weights[y * row + i];
            for (int64_t i = 0; i < reach; i++) {
                const REAL here = now[parts + i] + right * (now[i] - now[parts + i]);
                out[i] += here + down * (above[i] - here);
                above[i] = here;
            }
        }
        if (down > 0)
            for (int64_t i = 0; i < reach; i++)
                out[i] += down * above[i];
    }
}
