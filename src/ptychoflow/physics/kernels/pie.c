/* What a fit asks of a batch of patterns beside their Fourier transforms, each in one pass over memory.
 * Complex numbers are two REALs. Windows are squares of whole pixels, given by their first pixel along the image's rows. */

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Where the loader can choose, a copy of each loop for vectors of eight; both round alike. */
#if defined(__x86_64__) && defined(__GLIBC__) && __has_attribute(target_clones)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif
#define LANES 8 /* sums that run side by side, so that their order, and so the last bit, is the same everywhere */

/* windows[k] = image[first[k] + (y, x)]; a pixel is as many numbers as there are parts. */
WIDE void take(int64_t width, int64_t count, int64_t size, int64_t parts, const REAL *restrict image,
               const int64_t *restrict first, REAL *restrict windows)
{
    for (int64_t k = 0; k < count; k++)
        for (int64_t y = 0; y < size; y++, windows += size * parts)
            memcpy(windows, image + (first[k] + y * width) * parts, size * parts * sizeof(REAL));
}

/* image[first[k] + (y, x)] += windows[k], one window after another. */
WIDE void add(int64_t width, int64_t count, int64_t size, int64_t parts, REAL *restrict image,
              const int64_t *restrict first, const REAL *restrict windows)
{
    for (int64_t k = 0; k < count; k++)
        for (int64_t y = 0; y < size; y++, windows += size * parts) {
            REAL *restrict out = image + (first[k] + y * width) * parts;
            for (int64_t i = 0; i < size * parts; i++)
                out[i] += windows[i];
        }
}

/* sums[k] = sum_m |waves[k, m]|^2, pixel by pixel. */
static inline void power(int64_t modes, int64_t pixels, const REAL *restrict waves, REAL *restrict sums)
{
    for (int64_t i = 0; i < pixels; i++)
        sums[i] = waves[2 * i] * waves[2 * i] + waves[2 * i + 1] * waves[2 * i + 1];
    for (int64_t m = 1; m < modes; m++)
        for (int64_t i = 0; i < pixels; i++) {
            const REAL *restrict w = waves + 2 * (m * pixels + i);
            sums[i] += w[0] * w[0] + w[1] * w[1];
        }
}

/* modulus[k] = sqrt(max(sum_m |waves[k, m]|^2, least)), miss[k] = amplitude[rows[k]] - modulus[k]. */
WIDE void misses(int64_t count, int64_t modes, int64_t pixels, float least, const int64_t *restrict rows,
                 const REAL *restrict waves, const REAL *restrict amplitude, REAL *restrict modulus,
                 REAL *restrict miss)
{
    for (int64_t k = 0; k < count; k++, waves += 2 * modes * pixels, modulus += pixels, miss += pixels) {
        const REAL *restrict measured = amplitude + rows[k] * pixels;
        power(modes, pixels, waves, modulus);
        for (int64_t i = 0; i < pixels; i++) {
            const REAL here = modulus[i] > least ? modulus[i] : least;
            modulus[i] = sizeof(REAL) == 4 ? sqrtf(here) : sqrt(here);
            miss[i] = measured[i] - modulus[i];
        }
    }
}

/* waves[k, m] *= miss[k] / modulus[k]. */
WIDE void change(int64_t count, int64_t modes, int64_t pixels, const REAL *restrict modulus, const REAL *restrict miss,
                 REAL *restrict waves)
{
    for (int64_t k = 0; k < count; k++, modulus += pixels, miss += pixels)
        for (int64_t m = 0; m < modes; m++, waves += 2 * pixels)
            for (int64_t i = 0; i < pixels; i++) {
                const REAL factor = miss[i] / modulus[i];
                waves[2 * i] *= factor;
                waves[2 * i + 1] *= factor;
            }
}

/* pull[k] *= rates[k] / ((1 - alpha) * light[k] + alpha * max(light[k])). */
WIDE void steps(int64_t count, int64_t pixels, float alpha, const REAL *restrict rates, const REAL *restrict light,
                REAL *restrict pull)
{
    for (int64_t k = 0; k < count; k++, light += pixels, pull += 2 * pixels) {
        REAL lanes[LANES] = {0}, most = 0;
        int64_t i = 0;
        for (; i + LANES <= pixels; i += LANES)
            for (int64_t l = 0; l < LANES; l++)
                lanes[l] = light[i + l] > lanes[l] ? light[i + l] : lanes[l];
        for (; i < pixels; i++)
            lanes[0] = light[i] > lanes[0] ? light[i] : lanes[0];
        for (int64_t l = 0; l < LANES; l++)
            most = lanes[l] > most ? lanes[l] : most;
        for (i = 0; i < pixels; i++) {
            const REAL factor = rates[k] / (light[i] + alpha * (most - light[i]));
            pull[2 * i] *= factor;
            pull[2 * i + 1] *= factor;
        }
    }
}

/* pull[k] = sum_m conj(probes[k, m]) * changes[k, m], light[k] = sum_m |probes[k, m]|^2. */
WIDE void pulls(int64_t count, int64_t modes, int64_t pixels, const REAL *restrict probes,
                const REAL *restrict changes, REAL *restrict pull, REAL *restrict light)
{
    for (int64_t k = 0; k < count; k++, pull += 2 * pixels, light += pixels) {
        memset(pull, 0, 2 * pixels * sizeof(REAL));
        power(modes, pixels, probes, light);
        for (int64_t m = 0; m < modes; m++, probes += 2 * pixels, changes += 2 * pixels)
            for (int64_t i = 0; i < pixels; i++) {
                const REAL *restrict p = probes + 2 * i, *restrict c = changes + 2 * i;
                pull[2 * i] += p[0] * c[0] + p[1] * c[1];
                pull[2 * i + 1] += p[0] * c[1] - p[1] * c[0];
            }
    }
}

/* Re sum_m conj(here[m, x]) there[m, x] of a row, whose modes lie `apart` numbers from each other. */
static inline void products(int64_t modes, int64_t size, int64_t apart, const REAL *restrict here,
                            const REAL *restrict there, REAL *restrict out)
{
    for (int64_t x = 0; x < size; x++)
        out[x] = here[2 * x] * there[2 * x] + here[2 * x + 1] * there[2 * x + 1];
    for (int64_t m = 1; m < modes; m++) {
        here += apart, there += apart;
        for (int64_t x = 0; x < size; x++)
            out[x] += here[2 * x] * there[2 * x] + here[2 * x + 1] * there[2 * x + 1];
    }
}

static inline double dot(int64_t size, const REAL *restrict one, const REAL *restrict other)
{
    REAL lanes[LANES] = {0};
    int64_t x = 0;
    for (; x + LANES <= size; x += LANES)
        for (int64_t l = 0; l < LANES; l++)
            lanes[l] += one[x + l] * other[x + l];
    double sum = 0;
    for (int64_t l = 0; l < LANES; l++)
        sum += lanes[l];
    for (; x < size; x++)
        sum += one[x] * other[x];
    return sum;
}

/* Of each pattern, with a_y and a_x = reach / modulus * Re sum_m conj(wave) (next - last) along y and x, going around:
 * the normal equations of miss by a_y and a_x: two rows of the matrix, each with its right-hand side behind it. */
WIDE void tilts(int64_t count, int64_t modes, int64_t size, float reach, const REAL *restrict waves,
                const REAL *restrict modulus, const REAL *restrict miss, REAL *restrict equations)
{
    const int64_t pixels = size * size, apart = 2 * pixels;
    REAL above[size], below[size], beside[size], down[size], right[size];
    for (int64_t k = 0; k < count; k++, waves += modes * apart, modulus += pixels, miss += pixels, equations += 6) {
        double total[5] = {0};
        products(modes, size, apart, waves + 2 * (size - 1) * size, waves, above);
        for (int64_t y = 0; y < size; y++) {
            const REAL *restrict row = waves + 2 * y * size, *restrict missed = miss + y * size;
            products(modes, size, apart, row, waves + 2 * ((y + 1) % size) * size, below);
            products(modes, size - 1, apart, row, row + 2, beside);
            products(modes, 1, apart, row + 2 * (size - 1), row, beside + size - 1);
            for (int64_t x = 0; x < size; x++) {
                const REAL gain = reach / modulus[y * size + x];
                down[x] = (below[x] - above[x]) * gain;
                right[x] = beside[x] * gain;
                above[x] = below[x];
            }
            for (int64_t x = 1; x < size; x++)
                right[x] -= beside[x - 1] * (reach / modulus[y * size + x]);
            right[0] -= beside[size - 1] * (reach / modulus[y * size]);
            total[0] += dot(size, down, down);
            total[1] += dot(size, down, right);
            total[2] += dot(size, right, right);
            total[3] += dot(size, down, missed);
            total[4] += dot(size, right, missed);
        }
        const int64_t order[6] = {0, 1, 3, 1, 2, 4};
        for (int64_t i = 0; i < 6; i++)
            equations[i] = total[order[i]];
    }
}

/* Re conj(one) other of a row, weighted; `weight` may be 0 for even weights. */
static inline double overlap(int64_t size, const REAL *restrict one, const REAL *restrict other,
                             const REAL *restrict weight)
{
    REAL lanes[LANES] = {0}, rest = 0;
    int64_t x = 0;
    for (; x + LANES <= size; x += LANES)
        for (int64_t l = 0; l < LANES; l++) {
            const int64_t i = 2 * (x + l);
            lanes[l] += (one[i] * other[i] + one[i + 1] * other[i + 1]) * (weight ? weight[x + l] : 1);
        }
    for (; x < size; x++)
        rest += (one[2 * x] * other[2 * x] + one[2 * x + 1] * other[2 * x + 1]) * (weight ? weight[x] : 1);
    double sum = rest;
    for (int64_t l = 0; l < LANES; l++)
        sum += lanes[l];
    return sum;
}

/* Of each pattern, with d_y and d_x = (next - last) / 2 of its window along y and x, going around:
 * the sums of light d_y d_y, light d_y d_x and d_y pull, then of light d_x d_y, light d_x d_x and d_x pull,
 * each product Re conj(one) other. */
WIDE void motions(int64_t count, int64_t size, const REAL *restrict light, const REAL *restrict windows,
                  const REAL *restrict pull, REAL *restrict equations)
{
    const int64_t row = 2 * size, pixels = size * size;
    REAL down[row], right[row];
    for (int64_t k = 0; k < count; k++, light += pixels, windows += 2 * pixels, pull += 2 * pixels, equations += 6) {
        double total[5] = {0};
        for (int64_t y = 0; y < size; y++) {
            const REAL *restrict here = windows + y * row, *restrict asked = pull + y * row;
            const REAL *restrict next = windows + (y + 1) % size * row;
            const REAL *restrict last = windows + (y + size - 1) % size * row;
            for (int64_t i = 0; i < row; i++)
                down[i] = (next[i] - last[i]) / 2;
            for (int64_t i = 2; i < row - 2; i++)
                right[i] = (here[i + 2] - here[i - 2]) / 2;
            for (int64_t i = 0; i < 2; i++) {
                right[i] = (here[i + 2] - here[row - 2 + i]) / 2;
                right[row - 2 + i] = (here[i] - here[row - 4 + i]) / 2;
            }
            total[0] += overlap(size, down, down, light + y * size);
            total[1] += overlap(size, down, right, light + y * size);
            total[2] += overlap(size, right, right, light + y * size);
            total[3] += overlap(size, down, asked, 0);
            total[4] += overlap(size, right, asked, 0);
        }
        const int64_t order[6] = {0, 1, 3, 1, 2, 4};
        for (int64_t i = 0; i < 6; i++)
            equations[i] = total[order[i]];
    }
}
