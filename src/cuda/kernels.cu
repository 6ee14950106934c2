// Preprocessing on a GPU: every kernel, in the order in which a frame meets them.
//
// Why it exists: the same steps with the same arithmetic as `src/preprocess/` on the CPU, which is the oracle; so contraction to
// fused multiply-adds is off (--fmad=false), sums have a fixed order, and nothing is summed by floating-point atomics.
// What it must never do: hold an address or a size that is not in its argument, or allocate.
//
// This file is read by two compilers: NVRTC for the device, and the C++ compiler for tests on machines without one (emulation.h).
// So a kernel is a row of phases. In a phase, EACH_THREAD(t), the threads of a block do not read what others write in the same
// phase; every phase begins with a barrier, so that none can be forgotten. What lives from phase to phase lies in shared or global
// memory, or is the same for all threads. Outside a phase shared memory is read by `settled` alone, which waits for it.

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define KERNEL(name) extern "C" __global__ void __launch_bounds__(256) name
#define DEVICE static __device__
#define BLOCK ((int)blockIdx.x)
#define THREADS ((int)blockDim.x)
#define BARRIER() __syncthreads()
#define EACH_THREAD(t) for (int t = (__syncthreads(), (int)threadIdx.x), once = 1; once; once = 0)
#define COUNT(address, value) atomicAdd(address, value)
#define SYSTEM_FENCE() __threadfence_system()
extern __shared__ double shared_memory[];
#define SHARED shared_memory
typedef unsigned long long u64;
typedef unsigned int u32;
#else
#include "emulation.h"
#endif

// Energy per frequency, relative to the light of the image, under which there is nothing but rounding errors, is in `blank`.
#define TINY 1e-20f
#define COUNTS_MAX 1e9f
#define SMALLEST_NORMAL 1.17549435e-38f
#define SMALLEST_SQUARES 1e-30
#define CLIMBING_STEPS 2
// No number of standard deviations is this large: without a bound the host sends infinity.
#define UNBOUNDED 1e300

enum { U8 = 0, U16 = 1, I16 = 2, F32 = 3 };
enum { NO_BASELINE = 0, RUNNING_MINIMUM = 1, RUNNING_QUANTILE = 2 };
enum { NO_STATISTICS = 0, PER_PIXEL = 1, PER_CHANNEL = 2 };

struct Complex { float re, im; };

// One axis of the frame in registration. `turns[n]` is exp(-2 pi i n / length).
struct Axis {
    const float *taps, *window, *weights;
    const Complex *turns, *constant;
    const float *lag_cos, *lag_sin; // [frequency][lag], lag = 0 to reach
    int px, factor, length, samples, kept, tap_count;
    float radians;
    int pad;
};

// One axis of the model's frame in resampling, filled by `aim`.
struct Grid {
    int *first;
    float *weights;
    int from, to, taps, pad;
};

// What the host says of one frame. It writes it into memory that both see.
struct Order {
    u64 sequence;
    double quantile_alpha, quantile_gain, quantile_influence;
    double frames_before, frames_after, frames_now; // of the statistics: before, with this one, and as many as they then count for
    double fade, influence_sd; // what of them remains; distances count up to so many standard deviations
    float offset, reference_energy;
    float correction[4];
    float believed[2], origin[2];
    int registers, reference_blank;
    int line_shift;
    int group_begins, group_full;
    int ring_slot, ring_filled, baseline_begins;
    int learns;
    float lowest; // a peak below it is a mismatch: nothing learns
    int laid;
};

// What came of one frame.
struct Outcome {
    u64 sequence;
    float shift[2];    // as measured
    float believed[2]; // as used
    float undo[2];     // believed + origin
    float peak;
    int at_bound, doubtful;
    u32 non_finite, saturated, unusable; // pixels of the frame, of the frame, of the tensor
};

// Where everything lies and how large it is; the same for all frames of a geometry.
struct Plan {
    const Order *host_order;
    Outcome *host_outcome;
    Order *order;
    Outcome *outcome;
    const unsigned char *raw;
    float *light; // [plane][height][width]
    Axis axis[2]; // y, x
    Grid grid[2];
    const float *reference;  // [kx][4][rows]: conj(T) g / sqrt|T|, re and im of ky >= 0, then of -ky
    Complex *row_spectra;    // [kx][sample of y]
    float *folded;           // [kx][4][rows]: re and im of the even part along ky, then of the odd
    Complex *summed;         // [lag of y + reach][kx]
    float *energy;           // [kx]
    float *surface;          // [lag of y + reach][lag of x + reach]
    float *group_sum;        // [model pixel]
    float *ring;             // [slot][model pixel]
    double *f0, *deviation;  // [model pixel]
    double *mean, *m2;       // [model pixel] or [channel]
    double *joint, *last;    // [model pixel]; none where the share of the signal is not taken
    float *tensor;           // [model pixel]
    const float *laying;     // y of [model pixel], x of [model pixel], [sample][y, x]; in binned px
    double leak, fall, least_distance, baseline_floor, quantile, sd_floor;
    float dark, sign, lift, top; // light = sign * x + lift - dark; saturated from top
    float floor_counts, blank, ones, peak_min, reach_px, group_share;
    int plane_channel[2];
    int height, width, planes, guide, pixel_type;
    int rows, reach, averaged;
    int channels, model_plane, baseline, statistics;
    int wide, samples;
    int bins[2], binned[2]; // frame pixels averaged into one where an animal is laid on the atlas, and how many result; y, x
};

template <typename T> DEVICE T settled(const T *value) {
    BARRIER();
    return *value;
}

// Sum over the threads of a block (a power of two) by a tree: the order is the same on every machine.
template <typename T> DEVICE T total(T *values) {
    for (int half = THREADS / 2; half > 0; half /= 2) {
        EACH_THREAD(t) {
            if (t < half) values[t] += values[t + half];
        }
    }
    return settled(values);
}

DEVICE bool is_finite(float x) { return x - x == 0.0f; }

// ---------------------------------------------------------------------------------------------------------------- the frame

// One block. Takes over the order, and begins the outcome.
KERNEL(begin)(const Plan plan) {
    EACH_THREAD(t) {
        const u32 *from = (const u32 *)plan.host_order;
        u32 *to = (u32 *)plan.order;
        for (int i = t; i < (int)(sizeof(Order) / sizeof(u32)); i += THREADS) to[i] = from[i];
    }
    EACH_THREAD(t) {
        if (t != 0) continue;
        const Order &order = *plan.order;
        Outcome outcome = {};
        outcome.sequence = order.sequence;
        for (int a = 0; a < 2; a++) {
            outcome.believed[a] = order.believed[a];
            outcome.undo[a] = order.origin[a] + order.believed[a];
        }
        *plan.outcome = outcome;
    }
}

DEVICE float counts_at(const Plan &plan, int channel, int pixel) {
    const int at = channel * plan.height * plan.width + pixel;
    switch (plan.pixel_type) {
    case U8: return plan.raw[at];
    case U16: return ((const unsigned short *)plan.raw)[at];
    case I16: return ((const short *)plan.raw)[at];
    default: return ((const float *)plan.raw)[at];
    }
}

// One thread a pixel. Counts become light, odd lines are moved, flaws are counted.
KERNEL(convert)(const Plan plan) {
    int *flaws = (int *)SHARED;
    const int plane_px = plan.height * plan.width, all = plan.planes * plane_px;
    EACH_THREAD(t) {
        flaws[t] = 0;
        const int index = BLOCK * THREADS + t;
        if (index >= all) continue;
        const int plane = index / plane_px, pixel = index % plane_px, y = pixel / plan.width, x = pixel % plan.width;
        const int channel = plan.plane_channel[plane];
        const int moved = x + (y % 2 == 1 ? plan.order->line_shift : 0);
        const int source = pixel - x + (moved < 0 ? 0 : moved >= plan.width ? plan.width - 1 : moved);
        const float here = counts_at(plan, channel, pixel), from = counts_at(plan, channel, source);
        if (plan.pixel_type == F32) {
            flaws[t] = !(fabsf(here) <= COUNTS_MAX);
            plan.light[index] = fabsf(from) <= COUNTS_MAX ? from - plan.dark : 0.0f;
        } else {
            flaws[t] = plan.sign * here + plan.lift >= plan.top;
            plan.light[index] = plan.sign * from + plan.lift - plan.dark;
        }
    }
    const int sum = total(flaws);
    EACH_THREAD(t) {
        if (t == 0 && sum > 0) COUNT(plan.pixel_type == F32 ? &plan.outcome->non_finite : &plan.outcome->saturated, (u32)sum);
    }
}

// ------------------------------------------------------------------------------------------------------------- registration

// Pixel column `column` of row `row` after the vertical low pass, the mean of the template removed, windowed.
DEVICE float low_passed(const Plan &plan, int row, int column) {
    const Axis &y = plan.axis[0];
    const float *image = plan.light + plan.guide * plan.height * plan.width + column;
    float value = 0.0f, weights = 0.0f;
    for (int tap = 0; tap < y.tap_count; tap++) {
        const int source = row * y.factor + tap - y.tap_count / 2;
        if (source < 0 || source >= y.px) continue;
        const float weight = y.taps[tap] * y.window[source];
        value += weight * image[source * plan.width];
        weights += weight;
    }
    return (value - weights * plan.order->offset) * plan.axis[1].window[column];
}

// One block a decimated row: low pass along both axes, then the kept frequencies of the row.
KERNEL(rows)(const Plan plan) {
    if (!plan.order->registers) return;
    const Axis &x = plan.axis[1];
    const int split = x.kept < THREADS ? THREADS / x.kept : 1;
    Complex *parts = (Complex *)SHARED;
    float *wide = (float *)(parts + THREADS), *narrow = wide + plan.wide;
    EACH_THREAD(t) {
        for (int i = t; i < plan.wide; i += THREADS) {
            const int column = i - x.tap_count / 2;
            wide[i] = column >= 0 && column < x.px ? low_passed(plan, BLOCK, column) : 0.0f;
        }
    }
    EACH_THREAD(t) {
        for (int j = t; j < x.samples; j += THREADS) {
            float sum = 0.0f;
            for (int tap = 0; tap < x.tap_count; tap++) sum += x.taps[tap] * wide[j * x.factor + tap];
            narrow[j] = sum;
        }
    }
    EACH_THREAD(t) {
        for (int unit = t; unit < x.kept * split; unit += THREADS) {
            const int k = unit % x.kept, part = unit / x.kept, step = split * k % x.length;
            Complex sum = {0.0f, 0.0f};
            int turn = part * k % x.length;
            for (int j = part; j < x.samples; j += split) {
                sum.re += narrow[j] * x.turns[turn].re;
                sum.im += narrow[j] * x.turns[turn].im;
                turn += step;
                if (turn >= x.length) turn -= x.length;
            }
            if (split == 1) plan.row_spectra[k * plan.axis[0].samples + BLOCK] = sum;
            else parts[unit] = sum;
        }
    }
    EACH_THREAD(t) {
        if (split == 1 || t >= x.kept) continue;
        Complex sum = parts[t];
        for (int part = 1; part < split; part++) {
            sum.re += parts[part * x.kept + t].re;
            sum.im += parts[part * x.kept + t].im;
        }
        plan.row_spectra[t * plan.axis[0].samples + BLOCK] = sum;
    }
}

// f r / sqrt|f|; returns |f|.
DEVICE float rooted(Complex f, float r_re, float r_im, Complex *product) {
    const float magnitude = sqrtf(f.re * f.re + f.im * f.im);
    const float scale = 1.0f / sqrtf(magnitude + TINY);
    product->re = (f.re * r_re - f.im * r_im) * scale;
    product->im = (f.re * r_im + f.im * r_re) * scale;
    return magnitude;
}

// Both signs of one frequency ky of a column: the window's share of the mean is removed, then frame times reference, folded
// into even and odd part. Returns the energy.
DEVICE float fold(const Plan &plan, int kx, int ky, Complex up, Complex down, float mean) {
    const Complex x = plan.axis[1].constant[kx], y = plan.axis[0].constant[ky];
    const Complex share = {x.re * mean, x.im * mean};
    up.re -= y.re * share.re - y.im * share.im;
    up.im -= y.re * share.im + y.im * share.re;
    down.re -= y.re * share.re + y.im * share.im;
    down.im -= y.re * share.im - y.im * share.re;
    if (ky == 0) down.re = down.im = 0.0f;
    const float *r = plan.reference + kx * 4 * plan.rows + ky;
    float *to = plan.folded + kx * 4 * plan.rows + ky;
    Complex a, b;
    const float above = rooted(up, r[0], r[plan.rows], &a);
    const float below = rooted(down, r[2 * plan.rows], r[3 * plan.rows], &b);
    to[0] = a.re + b.re;
    to[plan.rows] = a.im + b.im;
    to[2 * plan.rows] = a.re - b.re;
    to[3 * plan.rows] = a.im - b.im;
    return plan.axis[0].weights[ky] * (above + below);
}

// Part `part` of `split` of the column's transform at ky and -ky.
DEVICE void transform(const Axis &y, const Complex *column, int ky, int part, int split, Complex *up, Complex *down) {
    const int step = split * ky % y.length;
    int turn = part * ky % y.length;
    Complex a = {0.0f, 0.0f}, b = {0.0f, 0.0f};
    for (int j = part; j < y.samples; j += split) {
        const Complex z = column[j], w = y.turns[turn];
        a.re += z.re * w.re - z.im * w.im;
        a.im += z.re * w.im + z.im * w.re;
        b.re += z.re * w.re + z.im * w.im;
        b.im += z.im * w.re - z.re * w.im;
        turn += step;
        if (turn >= y.length) turn -= y.length;
    }
    *up = a;
    *down = b;
}

// Sums over ky of the folded column times cos or sin of every vertical lag of one sign, combined for both signs.
DEVICE void sum_vertical(const Plan &plan, int kx, float *sums) {
    const Axis &y = plan.axis[0];
    const int lags = plan.reach + 1;
    EACH_THREAD(t) {
        for (int unit = t; unit < 4 * lags; unit += THREADS) {
            const int quarter = unit / lags, lag = unit % lags;
            const float *values = plan.folded + (kx * 4 + quarter) * plan.rows;
            const float *waves = (quarter < 2 ? y.lag_cos : y.lag_sin) + lag;
            float sum = 0.0f;
            for (int ky = 0; ky < y.kept; ky++) sum += values[ky] * waves[ky * lags];
            sums[unit] = sum;
        }
    }
    EACH_THREAD(t) {
        for (int lag = t; lag < lags; lag += THREADS) {
            const float even_re = sums[lag], even_im = sums[lags + lag], odd_re = sums[2 * lags + lag], odd_im = sums[3 * lags + lag];
            Complex *up = plan.summed + (plan.reach + lag) * plan.axis[1].kept + kx;
            Complex *down = plan.summed + (plan.reach - lag) * plan.axis[1].kept + kx;
            // At lag 0 both are the same place, and the odd sums are 0.
            *down = Complex{even_re + odd_im, even_im - odd_re};
            *up = Complex{even_re - odd_im, even_im + odd_re};
        }
    }
}

// One block a kept column: its transform, the product with the reference, and the sums for all vertical lags.
KERNEL(columns)(const Plan plan) {
    if (!plan.order->registers) return;
    const Axis &y = plan.axis[0];
    const int kx = BLOCK, split = y.kept < THREADS ? THREADS / y.kept : 1;
    Complex *parts = (Complex *)SHARED; // up, then down
    float *sums = (float *)(parts + 2 * THREADS);
    Complex *column = (Complex *)(sums + THREADS);
    EACH_THREAD(t) {
        float sum = 0.0f;
        for (int j = t; j < y.samples; j += THREADS) {
            sum += plan.row_spectra[j].re;
            column[j] = plan.row_spectra[kx * y.samples + j];
        }
        sums[t] = sum;
    }
    const float mean = total(sums) / plan.ones;
    EACH_THREAD(t) {
        float energy = 0.0f;
        for (int unit = t; unit < y.kept * split; unit += THREADS) {
            const int ky = unit % y.kept;
            Complex up, down;
            transform(y, column, ky, unit / y.kept, split, &up, &down);
            if (split == 1) energy += fold(plan, kx, ky, up, down, mean);
            else parts[unit] = up, parts[THREADS + unit] = down;
        }
        sums[t] = energy;
    }
    EACH_THREAD(t) {
        if (split == 1 || t >= y.kept) continue;
        Complex up = parts[t], down = parts[THREADS + t];
        for (int part = 1; part < split; part++) {
            const Complex a = parts[part * y.kept + t], b = parts[THREADS + part * y.kept + t];
            up.re += a.re, up.im += a.im;
            down.re += b.re, down.im += b.im;
        }
        sums[t] = fold(plan, kx, t, up, down, mean);
    }
    const float energy = total(sums);
    EACH_THREAD(t) {
        if (t == 0) plan.energy[kx] = plan.axis[1].weights[kx] * energy;
    }
    sum_vertical(plan, kx, (float *)column);
}

// One block a vertical lag: the correlation at all horizontal lags.
KERNEL(lags)(const Plan plan) {
    if (!plan.order->registers) return;
    const Axis &x = plan.axis[1];
    const int count = plan.reach + 1, side = 2 * plan.reach + 1;
    float *sums = (float *)SHARED;
    const Complex *row = plan.summed + BLOCK * x.kept;
    EACH_THREAD(t) {
        for (int unit = t; unit < 2 * count; unit += THREADS) {
            const int odd = unit / count, lag = unit % count;
            const float *waves = (odd ? x.lag_sin : x.lag_cos) + lag;
            float sum = 0.0f;
            for (int kx = 0; kx < x.kept; kx++) sum += (odd ? row[kx].im : row[kx].re) * waves[kx * count];
            sums[unit] = sum;
        }
    }
    EACH_THREAD(t) {
        for (int lag = t; lag < count; lag += THREADS) {
            const float even = sums[lag], odd = sums[count + lag];
            plan.surface[BLOCK * side + plan.reach - lag] = even + odd;
            plan.surface[BLOCK * side + plan.reach + lag] = even - odd;
        }
    }
}

struct Candidate { float value; int order; };

DEVICE bool beats(Candidate a, Candidate b) { return a.value > b.value || (a.value == b.value && a.order < b.order); }

DEVICE float surface_at(const Plan &plan, int dy, int dx) {
    return plan.surface[(plan.reach + dy) * (2 * plan.reach + 1) + plan.reach + dx];
}

// The highest lag; of equal ones no shift, then the first by columns. Its order is -1 or its place by columns.
DEVICE int highest(const Plan &plan, Candidate *best) {
    const int side = 2 * plan.reach + 1;
    EACH_THREAD(t) {
        Candidate mine = {surface_at(plan, 0, 0), -1};
        for (int order = t; order < side * side; order += THREADS) {
            const Candidate other = {surface_at(plan, order % side - plan.reach, order / side - plan.reach), order};
            if (other.value > mine.value) mine = other;
        }
        best[t] = mine;
    }
    for (int half = THREADS / 2; half > 0; half /= 2) {
        EACH_THREAD(t) {
            if (t < half && beats(best[t + half], best[t])) best[t] = best[t + half];
        }
    }
    return settled(&best->order);
}

// Peak of the parabola through a lag and its neighbours along one axis.
DEVICE float parabola(const Plan &plan, int dy, int dx, int axis) {
    const int lag = axis == 0 ? dy : dx;
    if (lag == plan.reach || lag == -plan.reach) return (float)lag;
    const int sy = axis == 0, sx = axis == 1;
    const float below = surface_at(plan, dy - sy, dx - sx), peak = surface_at(plan, dy, dx);
    const float above = surface_at(plan, dy + sy, dx + sx);
    const float curvature = below - 2.0f * peak + above;
    return curvature < 0.0f ? (float)lag + 0.5f * (below - above) / curvature : (float)lag;
}

struct Moments { float value, y, x, yy, yx, xx; };

// What one frequency adds to value, gradient and second derivatives of the continuous correlation.
DEVICE void add_moments(const Plan &plan, int kx, int ky, float cy, float sy, float cx, float sx, Moments *sum) {
    const float *at = plan.folded + kx * 4 * plan.rows + ky;
    const float even_re = at[0], even_im = at[plan.rows], odd_re = at[2 * plan.rows], odd_im = at[3 * plan.rows];
    const float u = (float)ky * plan.axis[0].radians, v = (float)kx * plan.axis[1].radians;
    const float re = cy * even_re - sy * odd_im, im = cy * even_im + sy * odd_re;
    const float y_re = -(u * (sy * even_re + cy * odd_im)), y_im = u * (cy * odd_re - sy * even_im);
    const float f = re * cx - im * sx, f_turned = re * sx + im * cx;
    const float y = y_re * cx - y_im * sx, y_turned = y_re * sx + y_im * cx;
    sum->value += f;
    sum->y += y;
    sum->x -= v * f_turned;
    sum->yy -= u * u * f;
    sum->yx -= v * y_turned;
    sum->xx -= v * v * f;
}

// The moments at a point. `waves` has room for cos and sin along both axes, `sums` for six values a thread.
DEVICE Moments moments(const Plan &plan, float dy, float dx, float *waves, float *sums) {
    const int ny = plan.axis[0].kept, nx = plan.axis[1].kept;
    float *cy = waves, *sy = cy + ny, *cx = sy + ny, *sx = cx + nx;
    EACH_THREAD(t) {
        for (int k = t; k < ny; k += THREADS) sincosf(plan.axis[0].radians * dy * (float)k, &sy[k], &cy[k]);
        for (int k = t; k < nx; k += THREADS) sincosf(plan.axis[1].radians * dx * (float)k, &sx[k], &cx[k]);
    }
    EACH_THREAD(t) {
        Moments mine = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
        for (int i = t; i < nx * ny; i += THREADS) {
            const int kx = i / ny, ky = i % ny;
            add_moments(plan, kx, ky, cy[ky], sy[ky], cx[kx], sx[kx], &mine);
        }
        const float values[6] = {mine.value, mine.y, mine.x, mine.yy, mine.yx, mine.xx};
        for (int m = 0; m < 6; m++) sums[m * THREADS + t] = values[m];
    }
    for (int half = THREADS / 2; half > 0; half /= 2) {
        EACH_THREAD(t) {
            for (int m = 0; m < 6; m++)
                if (t < half) sums[m * THREADS + t] += sums[m * THREADS + t + half];
        }
    }
    BARRIER();
    return Moments{sums[0], sums[THREADS], sums[2 * THREADS], sums[3 * THREADS], sums[4 * THREADS], sums[5 * THREADS]};
}

struct Point { float y, x, value; };

// Newton's method from the parabola's peak; falls back on it where it does not lead to a near maximum.
DEVICE Point climb(const Plan &plan, int dy, int dx, float *waves, float *sums) {
    const Point start = {parabola(plan, dy, dx, 0), parabola(plan, dy, dx, 1), 0.0f};
    Point point = start;
    float first = 0.0f;
    for (int step = 0; step <= CLIMBING_STEPS; step++) {
        const Moments m = moments(plan, point.y, point.x, waves, sums);
        if (step == 0) first = m.value;
        point.value = m.value;
        if (step == CLIMBING_STEPS) return point;
        const float determinant = m.yy * m.xx - m.yx * m.yx;
        if (m.yy >= 0.0f || determinant <= 0.0f) break;
        point.y -= (m.xx * m.y - m.yx * m.x) / determinant;
        point.x -= (m.yy * m.x - m.yx * m.y) / determinant;
        if (!(fabsf(point.y - (float)dy) <= 1.0f && fabsf(point.x - (float)dx) <= 1.0f)) break;
    }
    return Point{start.y, start.x, first};
}

DEVICE float limited(float value, float reach) { return value < -reach ? -reach : value > reach ? reach : value; }

// A finished measurement becomes the shift that is undone.
DEVICE void decide(const Plan &plan, Point point, float height, int at_bound) {
    const Order &order = *plan.order;
    Outcome &outcome = *plan.outcome;
    const float y = limited(point.y, plan.reach_px), x = limited(point.x, plan.reach_px);
    const float *c = order.correction;
    outcome.shift[0] = limited(c[0] * y + c[1] * x, plan.reach_px);
    outcome.shift[1] = limited(c[2] * y + c[3] * x, plan.reach_px);
    outcome.peak = height > 0.0f ? (height < 1.0f ? height : 1.0f) : 0.0f;
    outcome.at_bound = at_bound;
    outcome.doubtful = outcome.peak < plan.peak_min;
    for (int a = 0; a < 2; a++) {
        if (!outcome.doubtful && !(outcome.peak < order.lowest)) outcome.believed[a] = outcome.shift[a];
        outcome.undo[a] = order.origin[a] + outcome.believed[a];
    }
}

// One block: the exact peak of the correlation, and what is believed of it.
KERNEL(peak)(const Plan plan) {
    if (!plan.order->registers) return;
    float *sums = (float *)SHARED, *waves = sums + 6 * THREADS;
    EACH_THREAD(t) {
        float energy = 0.0f;
        for (int kx = t; kx < plan.axis[1].kept; kx += THREADS) energy += plan.energy[kx];
        sums[t] = energy;
        // The light of the windowed image, the scale of rounding errors.
        float light = 0.0f;
        for (int j = t; j < plan.axis[0].samples; j += THREADS) light += plan.row_spectra[j].re;
        sums[THREADS + t] = light;
    }
    const float light = fabsf(total(sums + THREADS)) + fabsf(plan.order->offset) * plan.ones;
    const float energy = total(sums);
    const bool blank = plan.order->reference_blank || !(energy > plan.blank * light) || energy < SMALLEST_NORMAL;
    if (blank) {
        EACH_THREAD(t) {
            if (t == 0) decide(plan, Point{0.0f, 0.0f, 0.0f}, 0.0f, 0);
        }
        return;
    }
    const int side = 2 * plan.reach + 1, order = highest(plan, (Candidate *)waves);
    const int dy = order < 0 ? 0 : order % side - plan.reach, dx = order < 0 ? 0 : order / side - plan.reach;
    const int at_bound = dy == plan.reach || dy == -plan.reach || dx == plan.reach || dx == -plan.reach;
    const Point point = climb(plan, dy, dx, waves, sums);
    const float height = point.value / sqrtf(energy * plan.order->reference_energy);
    EACH_THREAD(t) {
        if (t == 0) decide(plan, point, height, at_bound);
    }
}

// ---------------------------------------------------------------------------------------------------------- the model's frame

// One block an axis. Which frame pixels make an output pixel, for content displaced by the shift.
KERNEL(aim)(const Plan plan) {
    const Grid &grid = plan.grid[BLOCK];
    const double scale = (double)grid.from / (double)grid.to, side = scale > 1.0 ? scale : 1.0;
    EACH_THREAD(t) {
        const double shift = (double)plan.outcome->undo[BLOCK];
        for (int i = t; i < grid.to; i += THREADS) {
            const double left = ((double)i + 0.5) * scale + shift - 0.5 * side, right = left + side;
            const long long begin = (long long)floor(left), last = grid.from - grid.taps;
            const int first = (int)(begin < 0 ? 0 : begin > last ? last : begin);
            float *weights = grid.weights + i * grid.taps;
            for (int tap = 0; tap < grid.taps; tap++) weights[tap] = 0.0f;
            for (long long pixel = begin; (double)pixel < right; pixel++) {
                const double end = right < (double)(pixel + 1) ? right : (double)(pixel + 1);
                const double start = left > (double)pixel ? left : (double)pixel;
                // Beyond the frame the edge pixel stands in.
                const int inside = (int)(pixel < 0 ? 0 : pixel >= grid.from ? grid.from - 1 : pixel);
                weights[inside - first] += (float)((end - start) / side);
            }
            grid.first[i] = first;
        }
    }
}

// Rows blended at one column of the frame; four at a time, as on the CPU.
DEVICE float blended(const float *column, const float *weights, int taps, int width) {
    float sum = 0.0f;
    for (int group = 0; group < taps; group += 4) {
        const float *p = column + group * width, *w = weights + group;
        if (taps - group >= 4) {
            const float four = (p[0] * w[0] + p[width] * w[1]) + (p[2 * width] * w[2] + p[3 * width] * w[3]);
            sum = group == 0 ? four : sum + four;
            continue;
        }
        for (int tap = 0; tap < taps - group; tap++) {
            const float one = p[tap * width] * w[tap];
            sum = group == 0 && tap == 0 ? one : sum + one;
        }
    }
    return sum;
}

DEVICE float resampled(const Plan &plan, int plane, int i, int j) {
    const Grid &y = plan.grid[0], &x = plan.grid[1];
    const float *corner = plan.light + plane * plan.height * plan.width + y.first[i] * plan.width + x.first[j];
    const float *row_weights = y.weights + i * y.taps, *weights = x.weights + j * x.taps;
    float sum = blended(corner, row_weights, y.taps, plan.width) * weights[0];
    for (int tap = 1; tap < x.taps; tap++) sum += blended(corner + tap, row_weights, y.taps, plan.width) * weights[tap];
    return sum;
}

// Mean of the whole pixels that make one binned pixel.
DEVICE float bin(const Plan &plan, const float *light, int row, int column) {
    const int down = plan.bins[0], right = plan.bins[1];
    if (down * right == 1) return light[row * plan.width + column];
    float sum = 0.0f;
    for (int y = 0; y < down; y++) {
        const float *line = light + (row * down + y) * plan.width + column * right;
        float part = line[0];
        for (int x = 1; x < right; x++) part += line[x];
        sum += part;
    }
    return sum * (1.0f / (float)(down * right));
}

// One pixel of an animal that is laid on the atlas: the mean of bilinear samples.
DEVICE float laid(const Plan &plan, int plane, int at) {
    const float *light = plan.light + plane * plan.height * plan.width;
    const float *around = plan.laying + 2 * plan.model_plane;
    const float middle_y = plan.laying[at], middle_x = plan.laying[plan.model_plane + at];
    const float shift_y = plan.outcome->undo[0] / (float)plan.bins[0], shift_x = plan.outcome->undo[1] / (float)plan.bins[1];
    const int rows = plan.binned[0], columns = plan.binned[1];
    const float last_y = (float)(rows - 1), last_x = (float)(columns - 1);
    float sum = 0.0f;
    for (int sample = 0; sample < plan.samples; sample++) {
        float y = middle_y + shift_y + around[2 * sample], x = middle_x + shift_x + around[2 * sample + 1];
        y = y < 0.0f ? 0.0f : y > last_y ? last_y : y;
        x = x < 0.0f ? 0.0f : x > last_x ? last_x : x;
        const int top = (int)y, left = (int)x;
        const int below = top + 1 < rows ? top + 1 : rows - 1, beside = left + 1 < columns ? left + 1 : columns - 1;
        const float share_y = y - (float)top, share_x = x - (float)left;
        const float upper = bin(plan, light, top, left) * (1.0f - share_x) + bin(plan, light, top, beside) * share_x;
        const float lower = bin(plan, light, below, left) * (1.0f - share_x) + bin(plan, light, below, beside) * share_x;
        sum += upper * (1.0f - share_y) + lower * share_y;
    }
    return sum * (1.0f / (float)plan.samples);
}

DEVICE void learn_minimum(const Plan &plan, int pixel, int pixels, float x) {
    const Order &order = *plan.order;
    plan.ring[order.ring_slot * pixels + pixel] = x;
    float sum = plan.ring[pixel];
    for (int slot = 1; slot < order.ring_filled; slot++) sum += plan.ring[slot * pixels + pixel];
    const double average = (double)(sum * (1.0f / (float)order.ring_filled));
    const double f0 = plan.f0[pixel], denominator = f0 > plan.baseline_floor ? f0 : plan.baseline_floor;
    const double risen = f0 + plan.leak * denominator, lowest = f0 - plan.fall * denominator;
    const double falling = average > lowest ? average : lowest;
    plan.f0[pixel] = order.baseline_begins ? average : average < risen ? falling : risen;
}

DEVICE void learn_quantile(const Plan &plan, int pixel, float x) {
    const Order &order = *plan.order;
    if (order.baseline_begins) {
        plan.deviation[pixel] = 0.0;
        plan.f0[pixel] = (double)x;
        return;
    }
    const double distance = (double)x - plan.f0[pixel];
    const double before = plan.deviation[pixel];
    const double most = order.quantile_influence * (before > plan.least_distance ? before : plan.least_distance);
    const double counted = fabs(distance) < most ? fabs(distance) : most;
    const double deviation = before + order.quantile_alpha * (counted - before);
    plan.deviation[pixel] = deviation;
    plan.f0[pixel] += order.quantile_gain * deviation * (distance < 0.0 ? plan.quantile - 1.0 : plan.quantile);
}

DEVICE float relative_change(const Plan &plan, int pixel, int pixels, float x) {
    if (plan.baseline == RUNNING_MINIMUM) learn_minimum(plan, pixel, pixels, x);
    else learn_quantile(plan, pixel, x);
    const float f0 = (float)plan.f0[pixel], denominator = f0 > plan.floor_counts ? f0 : plan.floor_counts;
    return (x - f0) / denominator;
}

// Does the distance of a frame from the mean count only so far?
DEVICE bool is_bounded(const Order &order) { return order.influence_sd < UNBOUNDED; }

// How far, at this variance.
DEVICE double farthest(const Plan &plan, double variance) {
    const double sd = sqrt(variance);
    return plan.order->influence_sd * (sd > plan.sd_floor ? sd : plan.sd_floor);
}

// The frame does not match the template: nothing learns from it, and it has no tensor.
DEVICE bool mismatched(const Plan &plan) { return plan.order->registers && plan.outcome->peak < plan.order->lowest; }

// Share of a pixel's variance that the frame before foretells, 0 to 1.
DEVICE float signal_share(double joint, double m2) {
    const float share = (float)(joint / (m2 > SMALLEST_SQUARES ? m2 : SMALLEST_SQUARES));
    return share < 0.0f ? 0.0f : share > 1.0f ? 1.0f : share;
}

// Statistics of this pixel, which begin at zero with the first frame whatever lies in memory.
DEVICE float normalised(const Plan &plan, int pixel, float x) {
    const Order &order = *plan.order;
    const bool begins = order.frames_before == 0.0;
    double mean = begins ? 0.0 : plan.mean[pixel], m2 = begins ? 0.0 : plan.m2[pixel];
    if (order.learns) {
        double distance = (double)x - mean;
        if (is_bounded(order)) {
            const double most = farthest(plan, m2 * (1.0 / order.frames_before));
            distance = distance < -most ? -most : distance;
            distance = distance > most ? most : distance;
            const double step = distance * (1.0 / order.frames_after);
            mean += step;
            m2 += distance * (distance - step);
        } else {
            mean += distance * (1.0 / order.frames_after);
            m2 += distance * ((double)x - mean);
        }
        m2 *= order.fade;
        plan.mean[pixel] = mean;
        plan.m2[pixel] = m2;
        if (plan.joint) {
            const double before = begins ? 0.0 : plan.joint[pixel], last = begins ? 0.0 : plan.last[pixel];
            plan.joint[pixel] = (before + last * distance) * order.fade;
            plan.last[pixel] = distance - distance * (1.0 / order.frames_after);
        }
    }
    const double share = 1.0 / (order.frames_now > 1.0 ? order.frames_now : 1.0);
    const float distance = (float)((double)x - mean), sd = sqrtf((float)(m2 * share)), floor_sd = (float)plan.sd_floor;
    const float z = distance / (sd > floor_sd ? sd : floor_sd);
    return plan.joint ? z * signal_share(begins && !order.learns ? 0.0 : plan.joint[pixel], m2) : z;
}

// One thread a pixel of the model's frame: resampled with the shift undone, averaged, dF/F, normalised.
KERNEL(develop)(const Plan plan) {
    const int pixels = plan.channels * plan.model_plane;
    const Order &order = *plan.order;
    EACH_THREAD(t) {
        const int pixel = BLOCK * THREADS + t;
        if (pixel >= pixels || mismatched(plan)) continue;
        const int at = pixel % plan.model_plane, width = plan.grid[1].to;
        const int plane = pixel / plan.model_plane;
        float x = order.laid ? laid(plan, plane, at) : resampled(plan, plane, at / width, at % width);
        if (plan.averaged) {
            const float sum = order.group_begins ? x : plan.group_sum[pixel] + x;
            plan.group_sum[pixel] = sum;
            x = sum * plan.group_share;
        }
        if (!order.group_full) continue;
        if (plan.baseline != NO_BASELINE) x = relative_change(plan, pixel, pixels, x);
        if (plan.statistics == PER_PIXEL) x = normalised(plan, pixel, x);
        plan.tensor[pixel] = x;
        if (!is_finite(x)) COUNT(&plan.outcome->unusable, 1u);
    }
}

// One block a channel: statistics of the whole plane, in two passes, then applied.
KERNEL(normalise_channels)(const Plan plan) {
    const Order &order = *plan.order;
    if (!order.group_full || mismatched(plan)) return;
    double *sums = SHARED;
    float *plane = plan.tensor + BLOCK * plan.model_plane;
    const double pixels = (double)plan.model_plane;
    const bool begins = order.frames_before == 0.0;
    double mean = begins ? 0.0 : plan.mean[BLOCK], m2 = begins ? 0.0 : plan.m2[BLOCK];
    EACH_THREAD(t) {
        sums[t] = 0.0;
        for (int i = t; i < plan.model_plane; i += THREADS) sums[t] += (double)plane[i];
    }
    const double plane_mean = total(sums) / pixels;
    EACH_THREAD(t) {
        sums[t] = 0.0;
        for (int i = t; i < plan.model_plane; i += THREADS) {
            const double distance = (double)plane[i] - plane_mean;
            sums[t] += distance * distance;
        }
    }
    const double plane_m2 = total(sums);
    if (order.learns) {
        double distance = plane_mean - mean, within = plane_m2;
        if (is_bounded(order)) {
            const double most = farthest(plan, m2 / (order.frames_before * pixels));
            distance = distance < -most ? -most : distance > most ? most : distance;
            if (within > most * most * pixels) within = most * most * pixels;
        }
        mean += distance / order.frames_after;
        m2 += within + distance * distance * pixels * order.frames_before / order.frames_after;
        m2 *= order.fade;
    }
    const double frames = order.frames_now > 1.0 ? order.frames_now : 1.0, sd = sqrt(m2 / (frames * pixels));
    EACH_THREAD(t) {
        if (t == 0 && order.learns) plan.mean[BLOCK] = mean, plan.m2[BLOCK] = m2;
        for (int i = t; i < plan.model_plane; i += THREADS) {
            const float x = (float)(((double)plane[i] - mean) / (sd > plan.sd_floor ? sd : plan.sd_floor));
            plane[i] = x;
            if (!is_finite(x)) COUNT(&plan.outcome->unusable, 1u);
        }
    }
}

// Writes the number that the host waits for, behind everything that this block and the kernels before it wrote.
DEVICE void answer(u64 *host, u64 number) {
    SYSTEM_FENCE();
    *(volatile u64 *)host = number;
}

// One block. Hands the outcome over, in memory that both see: its number last, which is what the host waits for.
KERNEL(finish)(const Plan plan) {
    EACH_THREAD(t) {
        const u32 *from = (const u32 *)plan.outcome;
        u32 *to = (u32 *)plan.host_outcome;
        const int number = sizeof(plan.outcome->sequence) / sizeof(u32);
        for (int i = number + t; i < (int)(sizeof(Outcome) / sizeof(u32)); i += THREADS) to[i] = from[i];
    }
    EACH_THREAD(t) {
        if (t == 0) answer(&plan.host_outcome->sequence, plan.outcome->sequence);
    }
}

// --------------------------------------------------------------------------------------------------------------- the encoder

// What goes in and out of the encoder's session. A length of 0 is an output that the model has not.
struct Exchange {
    const float *tensor;
    float *frames; // the last `window` frames, oldest first
    const float *outputs[4]; // embedding, probabilities, continuous outputs, novelty
    const float *state_after;
    float *state_before;
    u32 *verdict;      // non-finite values of each output and of the state
    float *answer;     // in memory that both see: the outputs, one behind the other
    u32 *host_verdict;
    u64 *runs;      // how often outputs were delivered
    u64 *host_runs; // the same, in memory that both see: what the host waits for
    int pixels, window, lengths[4], state, padding;
};

// One thread a pixel: the window moves on by one frame, and the new one enters.
KERNEL(accept)(const Exchange exchange) {
    EACH_THREAD(t) {
        const int pixel = BLOCK * THREADS + t;
        if (pixel < 5) exchange.verdict[pixel] = 0;
        if (pixel >= exchange.pixels) continue;
        float *at = exchange.frames + pixel;
        for (int frame = 1; frame < exchange.window; frame++, at += exchange.pixels) *at = at[exchange.pixels];
        *at = exchange.tensor[pixel];
    }
}

// One thread a value of the state or of an output: is it a number?
KERNEL(judge)(const Exchange exchange) {
    EACH_THREAD(t) {
        int at = BLOCK * THREADS + t;
        for (int output = 0; output < 4; output++) {
            if (at >= 0 && at < exchange.lengths[output]) {
                const float value = exchange.outputs[output][at];
                if (!is_finite(value)) COUNT(&exchange.verdict[output], 1u);
            }
            at -= exchange.lengths[output];
        }
        if (at >= 0 && at < exchange.state && !is_finite(exchange.state_after[at])) COUNT(&exchange.verdict[4], 1u);
    }
}

// One thread a value: the state moves on unless something was not a number; outputs and verdict are handed over.
KERNEL(deliver)(const Exchange exchange) {
    const u32 *verdict = exchange.verdict;
    EACH_THREAD(t) {
        int at = BLOCK * THREADS + t, place = at;
        if (at < 5) exchange.host_verdict[at] = verdict[at];
        const bool good = (verdict[0] | verdict[1] | verdict[2] | verdict[3] | verdict[4]) == 0;
        for (int output = 0; output < 4; output++) {
            if (at >= 0 && at < exchange.lengths[output]) exchange.answer[place] = exchange.outputs[output][at];
            at -= exchange.lengths[output];
        }
        if (at >= 0 && at < exchange.state && good) exchange.state_before[at] = exchange.state_after[at];
    }
}

// One block, behind `deliver`: everything has been handed over.
KERNEL(tell)(const Exchange exchange) {
    EACH_THREAD(t) {
        if (t == 0) answer(exchange.host_runs, *exchange.runs += 1);
    }
}

// ------------------------------------------------------------------------------------------------------------- the idle device

struct Pulse { u32 *sink; int rounds, pad; };

// One block that does nothing of use for some microseconds, so that the device does not lower its clock.
KERNEL(pulse)(const Pulse work) {
    EACH_THREAD(t) {
        u32 value = (u32)t + 1u;
        for (int round = 0; round < work.rounds; round++) value = value * 1664525u + 1013904223u;
        if (value == 0u) COUNT(work.sink, 1u);
    }
}

struct Copy { const float *from; float *to; int values, pad; };

// One thread a value: what moving memory takes, for the floor that the bench prints.
KERNEL(copy)(const Copy work) {
    EACH_THREAD(t) {
        const int at = BLOCK * THREADS + t;
        if (at < work.values) work.to[at] = work.from[at];
    }
}
