/* Updates of the rPIE engine on a batch of patterns, beside the Fourier transforms: each kernel passes memory once.
 * They compute what the torch code of the functions of the same name computes (pie.py, low_order_phase.py).
 * Complex numbers are two REALs. A window is a square of whole pixels, given by the flat index of its first pixel. */

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

/* Compile each kernel twice, with and without AVX2, where the loader can choose; both versions round alike. */
#if defined(__x86_64__) && defined(__GLIBC__) && __has_attribute(target_clones)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif
#define LANES 8 /* partial sums: fix the order of a sum, and so its last bit, on every processor */

/* amplitude[k] = sqrt(counts[k]) with the zero frequency moved from the centre to the corner, for counts of one type. */
#define CORNER_AMPLITUDES(name, type)                                                                          \
    WIDE void name(int64_t count, int64_t size, const type *restrict counts, float *restrict amplitude)        \
    {                                                                                                          \
        const int64_t half = size / 2, far = size - half;                                                      \
        for (int64_t k = 0; k < count; k++, counts += size * size)                                             \
            for (int64_t y = 0; y < size; y++, amplitude += size) {                                            \
                const type *restrict row = counts + (y + half) % size * size;                                  \
                for (int64_t x = 0; x < far; x++)                                                              \
                    amplitude[x] = sqrtf((float)row[x + half]);                                                \
                for (int64_t x = 0; x < half; x++)                                                             \
                    amplitude[far + x] = sqrtf((float)row[x]);                                                 \
            }                                                                                                  \
    }
CORNER_AMPLITUDES(corner_amplitudes_uint8, uint8_t)
CORNER_AMPLITUDES(corner_amplitudes_uint16, uint16_t)
CORNER_AMPLITUDES(corner_amplitudes_uint32, uint32_t)
CORNER_AMPLITUDES(corner_amplitudes_float32, float)

/* patterns[k] = pattern rows[k] of a file whose first one lies at offset; return how many could be read. */
int64_t read_patterns(int64_t file, int64_t offset, int64_t bytes, int64_t count, const int64_t *rows, char *patterns)
{
    for (int64_t k = 0; k < count; k++)
        for (int64_t done = 0; done < bytes;) {
            const ssize_t got = pread((int)file, patterns + k * bytes + done, bytes - done, offset + rows[k] * bytes + done);
            if (got == 0 || (got < 0 && errno != EINTR))
                return k;
            done += got > 0 ? got : 0;
        }
    return count;
}

/* windows[k] = image[first[k] + (y, x)]; a pixel has `parts` numbers, 2 of a complex one. */
WIDE void take_windows(int64_t width, int64_t count, int64_t size, int64_t parts, const REAL *restrict image,
               const int64_t *restrict first, REAL *restrict windows)
{
    for (int64_t k = 0; k < count; k++)
        for (int64_t y = 0; y < size; y++, windows += size * parts)
            memcpy(windows, image + (first[k] + y * width) * parts, size * parts * sizeof(REAL));
}

/* image[first[k] + (y, x)] += windows[k], window by window: the adjoint of take_windows. */
WIDE void add_windows(int64_t width, int64_t count, int64_t size, int64_t parts, REAL *restrict image,
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
static inline void total_intensity(int64_t modes, int64_t pixels, const REAL *restrict waves, REAL *restrict sums)
{
    for (int64_t i = 0; i < pixels; i++)
        sums[i] = waves[2 * i] * waves[2 * i] + waves[2 * i + 1] * waves[2 * i + 1];
    for (int64_t m = 1; m < modes; m++)
        for (int64_t i = 0; i < pixels; i++) {
            const REAL *restrict w = waves + 2 * (m * pixels + i);
            sums[i] += w[0] * w[0] + w[1] * w[1];
        }
}

/* modulus[k] = sqrt(max(sum_m |waves[k, m]|^2 + background, minimum)), residual[k] = amplitude[rows[k]] - modulus[k];
 * `background` is 0 for none. */
WIDE void modulus_and_residual(int64_t count, int64_t modes, int64_t pixels, float minimum,
                               const int64_t *restrict rows, const REAL *restrict waves,
                               const REAL *restrict amplitude, const REAL *restrict background,
                               REAL *restrict modulus, REAL *restrict residual)
{
    for (int64_t k = 0; k < count; k++, waves += 2 * modes * pixels, modulus += pixels, residual += pixels) {
        const REAL *restrict measured = amplitude + rows[k] * pixels;
        total_intensity(modes, pixels, waves, modulus);
        if (background)
            for (int64_t i = 0; i < pixels; i++)
                modulus[i] += background[i];
        for (int64_t i = 0; i < pixels; i++) {
            const REAL expected = modulus[i] > minimum ? modulus[i] : minimum;
            modulus[i] = sizeof(REAL) == 4 ? sqrtf(expected) : sqrt(expected);
            residual[i] = measured[i] - modulus[i];
        }
    }
}

/* waves[k, m] *= residual[k] / modulus[k]. */
WIDE void exit_wave_update(int64_t count, int64_t modes, int64_t pixels, const REAL *restrict modulus,
                           const REAL *restrict residual, REAL *restrict waves)
{
    for (int64_t k = 0; k < count; k++, modulus += pixels, residual += pixels)
        for (int64_t m = 0; m < modes; m++, waves += 2 * pixels)
            for (int64_t i = 0; i < pixels; i++) {
                const REAL factor = residual[i] / modulus[i];
                waves[2 * i] *= factor;
                waves[2 * i + 1] *= factor;
            }
}

/* numerator[k] *= step_sizes[k] / ((1 - alpha) * probe_intensity[k] + alpha * max(probe_intensity[k])). */
WIDE void rpie_object_updates(int64_t count, int64_t pixels, float alpha, const REAL *restrict step_sizes,
                              const REAL *restrict probe_intensity, REAL *restrict numerator)
{
    for (int64_t k = 0; k < count; k++, probe_intensity += pixels, numerator += 2 * pixels) {
        REAL lanes[LANES] = {0}, maximum = 0;
        int64_t i = 0;
        for (; i + LANES <= pixels; i += LANES)
            for (int64_t l = 0; l < LANES; l++)
                lanes[l] = probe_intensity[i + l] > lanes[l] ? probe_intensity[i + l] : lanes[l];
        for (; i < pixels; i++)
            lanes[0] = probe_intensity[i] > lanes[0] ? probe_intensity[i] : lanes[0];
        for (int64_t l = 0; l < LANES; l++)
            maximum = lanes[l] > maximum ? lanes[l] : maximum;
        for (i = 0; i < pixels; i++) {
            const REAL factor = step_sizes[k] / (probe_intensity[i] + alpha * (maximum - probe_intensity[i]));
            numerator[2 * i] *= factor;
            numerator[2 * i + 1] *= factor;
        }
    }
}

/* numerator[k] = sum_m conj(probes[k, m]) * exit_wave_updates[k, m], probe_intensity[k] = sum_m |probes[k, m]|^2. */
WIDE void object_update_terms(int64_t count, int64_t modes, int64_t pixels, const REAL *restrict probes,
                const REAL *restrict exit_wave_updates, REAL *restrict numerator, REAL *restrict probe_intensity)
{
    for (int64_t k = 0; k < count; k++, numerator += 2 * pixels, probe_intensity += pixels) {
        memset(numerator, 0, 2 * pixels * sizeof(REAL));
        total_intensity(modes, pixels, probes, probe_intensity);
        for (int64_t m = 0; m < modes; m++, probes += 2 * pixels, exit_wave_updates += 2 * pixels)
            for (int64_t i = 0; i < pixels; i++) {
                const REAL *restrict p = probes + 2 * i, *restrict c = exit_wave_updates + 2 * i;
                numerator[2 * i] += p[0] * c[0] + p[1] * c[1];
                numerator[2 * i + 1] += p[0] * c[1] - p[1] * c[0];
            }
    }
}

/* products[x] = Re sum_m conj(first[m, x]) second[m, x] of two rows, whose modes are `mode_stride` numbers apart. */
static inline void mode_products(int64_t modes, int64_t size, int64_t mode_stride, const REAL *restrict first,
                                 const REAL *restrict second, REAL *restrict products)
{
    for (int64_t x = 0; x < size; x++)
        products[x] = first[2 * x] * second[2 * x] + first[2 * x + 1] * second[2 * x + 1];
    for (int64_t m = 1; m < modes; m++) {
        first += mode_stride, second += mode_stride;
        for (int64_t x = 0; x < size; x++)
            products[x] += first[2 * x] * second[2 * x] + first[2 * x + 1] * second[2 * x + 1];
    }
}

/* sum_x first[x] second[x] */
static inline double dot(int64_t size, const REAL *restrict first, const REAL *restrict second)
{
    REAL lanes[LANES] = {0};
    int64_t x = 0;
    for (; x + LANES <= size; x += LANES)
        for (int64_t l = 0; l < LANES; l++)
            lanes[l] += first[x + l] * second[x + l];
    double sum = 0;
    for (int64_t l = 0; l < LANES; l++)
        sum += lanes[l];
    for (; x < size; x++)
        sum += first[x] * second[x];
    return sum;
}

/* With the derivatives a = reach / modulus * Re sum_m conj(wave) (next - last) of the amplitude along y and x,
 * periodic: the normal equations of residual = a_y g_y + a_x g_x of each pattern, as rows (a_y a_y, a_y a_x,
 * a_y residual) and (a_x a_y, a_x a_x, a_x residual), each summed over the pixels. */
WIDE void phase_gradient_normal_equations(int64_t count, int64_t modes, int64_t size, float reach,
                                          const REAL *restrict waves, const REAL *restrict modulus,
                                          const REAL *restrict residual, REAL *restrict equations)
{
    const int64_t pixels = size * size, mode_stride = 2 * pixels;
    REAL previous_row[size], next_row[size], next_column[size], derivative_y[size], derivative_x[size];
    for (int64_t k = 0; k < count;
         k++, waves += modes * mode_stride, modulus += pixels, residual += pixels, equations += 6) {
        double total[5] = {0};
        mode_products(modes, size, mode_stride, waves + 2 * (size - 1) * size, waves, previous_row);
        for (int64_t y = 0; y < size; y++) {
            const REAL *restrict row = waves + 2 * y * size, *restrict residual_row = residual + y * size;
            mode_products(modes, size, mode_stride, row, waves + 2 * ((y + 1) % size) * size, next_row);
            mode_products(modes, size - 1, mode_stride, row, row + 2, next_column);
            mode_products(modes, 1, mode_stride, row + 2 * (size - 1), row, next_column + size - 1);
            for (int64_t x = 0; x < size; x++) {
                const REAL gain = reach / modulus[y * size + x];
                derivative_y[x] = (next_row[x] - previous_row[x]) * gain;
                derivative_x[x] = next_column[x] * gain;
                previous_row[x] = next_row[x];
            }
            for (int64_t x = 1; x < size; x++)
                derivative_x[x] -= next_column[x - 1] * (reach / modulus[y * size + x]);
            derivative_x[0] -= next_column[size - 1] * (reach / modulus[y * size]);
            total[0] += dot(size, derivative_y, derivative_y);
            total[1] += dot(size, derivative_y, derivative_x);
            total[2] += dot(size, derivative_x, derivative_x);
            total[3] += dot(size, derivative_y, residual_row);
            total[4] += dot(size, derivative_x, residual_row);
        }
        const int64_t order[6] = {0, 1, 3, 1, 2, 4};
        for (int64_t i = 0; i < 6; i++)
            equations[i] = total[order[i]];
    }
}

/* Re sum_x weight[x] conj(first[x]) second[x] of a row; `weight` is 0 for weights of 1. */
static inline double weighted_dot(int64_t size, const REAL *restrict first, const REAL *restrict second,
                                  const REAL *restrict weight)
{
    REAL lanes[LANES] = {0}, remainder = 0;
    int64_t x = 0;
    for (; x + LANES <= size; x += LANES)
        for (int64_t l = 0; l < LANES; l++) {
            const int64_t i = 2 * (x + l);
            lanes[l] += (first[i] * second[i] + first[i + 1] * second[i + 1]) * (weight ? weight[x + l] : 1);
        }
    for (; x < size; x++)
        remainder += (first[2 * x] * second[2 * x] + first[2 * x + 1] * second[2 * x + 1]) * (weight ? weight[x] : 1);
    double sum = remainder;
    for (int64_t l = 0; l < LANES; l++)
        sum += lanes[l];
    return sum;
}

/* With the derivatives d = (next - last) / 2 of an object window along y and x, periodic, and I the probe intensity:
 * the normal equations of each position, as rows (I d_y d_y, I d_y d_x, d_y numerator) and (I d_x d_y, I d_x d_x,
 * d_x numerator), each product Re conj(a) b, summed over the pixels. */
WIDE void position_normal_equations(int64_t count, int64_t size, const REAL *restrict probe_intensity,
                                    const REAL *restrict windows, const REAL *restrict numerator,
                                    REAL *restrict equations)
{
    const int64_t row = 2 * size, pixels = size * size;
    REAL derivative_y[row], derivative_x[row];
    for (int64_t k = 0; k < count;
         k++, probe_intensity += pixels, windows += 2 * pixels, numerator += 2 * pixels, equations += 6) {
        double total[5] = {0};
        for (int64_t y = 0; y < size; y++) {
            const REAL *restrict current = windows + y * row, *restrict numerator_row = numerator + y * row;
            const REAL *restrict next = windows + (y + 1) % size * row;
            const REAL *restrict last = windows + (y + size - 1) % size * row;
            for (int64_t i = 0; i < row; i++)
                derivative_y[i] = (next[i] - last[i]) / 2;
            for (int64_t i = 2; i < row - 2; i++)
                derivative_x[i] = (current[i + 2] - current[i - 2]) / 2;
            for (int64_t i = 0; i < 2; i++) {
                derivative_x[i] = (current[i + 2] - current[row - 2 + i]) / 2;
                derivative_x[row - 2 + i] = (current[i] - current[row - 4 + i]) / 2;
            }
            total[0] += weighted_dot(size, derivative_y, derivative_y, probe_intensity + y * size);
            total[1] += weighted_dot(size, derivative_y, derivative_x, probe_intensity + y * size);
            total[2] += weighted_dot(size, derivative_x, derivative_x, probe_intensity + y * size);
            total[3] += weighted_dot(size, derivative_y, numerator_row, 0);
            total[4] += weighted_dot(size, derivative_x, numerator_row, 0);
        }
        const int64_t order[6] = {0, 1, 3, 1, 2, 4};
        for (int64_t i = 0; i < 6; i++)
            equations[i] = total[order[i]];
    }
}
