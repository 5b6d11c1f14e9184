// Conjugate gradients for all systems of a batch, but for the product: each vector is read once a kernel, and all numbers of a
// system stay on the device. Every iteration has a row of them of its own, [B, RECORD_NUMBERS] in double, zeroed before the solve
// begins: kernels add sums to it, every block makes step sizes and decisions from them for itself, and the first block of a
// system writes down what the next iteration starts from. Decisions are those of linalg/pcg.py, and in its precision.
#include "warp_sums.cuh"

namespace diff3r {

constexpr int VECTOR_THREADS = 256;
constexpr int PER_THREAD = 4;

// The part of a system that this block works on; blocks do not straddle systems.
struct Part {
    int64_t system, begin, end;  // begin and end within [B, P]
    bool first_block;
    __device__ __forceinline__ explicit Part(int64_t unknowns) {
        const int64_t per_block = int64_t(VECTOR_THREADS) * PER_THREAD;
        const int64_t blocks = (unknowns + per_block - 1) / per_block;
        system = int64_t(blockIdx.x) / blocks;
        const int64_t first = int64_t(blockIdx.x) % blocks * per_block;
        begin = system * unknowns + first + int64_t(threadIdx.x);
        end = system * unknowns + (first + per_block < unknowns ? first + per_block : unknowns);
        first_block = first == 0;
    }
    // Whether this thread is the one that writes what is known of the system.
    __device__ __forceinline__ bool writes() const { return first_block && threadIdx.x == 0; }
};

// Adds the sums over the block of two numbers to out[0] and out[1]: one atomic addition each. (Thousands of blocks add to the
// same two numbers, one after the other.) All threads of the block must call this.
template <class T> __device__ __forceinline__ void add_block_sums(T* sums, double* out) {
    constexpr int WARPS = VECTOR_THREADS / WARP;
    static_assert(2 * WARPS <= WARP, "one warp adds the warps' sums up");
    __shared__ double parts[2 * WARPS];
    const int warp = int(threadIdx.x) / WARP, lane = int(threadIdx.x) % WARP;
    const T sum = warp_sums<2>(sums);
    if (lane % (WARP / 2) == 0) parts[2 * warp + lane / (WARP / 2)] = double(sum);
    __syncthreads();
    if (warp > 0) return;
    double both[2] = {lane < WARPS ? parts[2 * lane] : 0.0, lane < WARPS ? parts[2 * lane + 1] : 0.0};
    WarpAdder<2>().add(both, out);
}

// What an iteration's row holds of a system.
enum Record : int {
    CURVATURE,           // p A p
    RZ, RR,              // z r and r r of the new residual
    DRIFT, TRUTH,        // squared: the true residual's distance from it, and the true residual
    TRUE_RZ, TRUE_RR,    // of the true residual, where it takes its place
    // Written once, by one thread:
    LAST_RZ, LAST_RR,    // of the last good iterate
    ACTIVE, REASON, ITERATIONS, RELATIVE,
    RIGHT,               // squared right-hand side
    RECORD_NUMBERS,
};

// As in PCGReason (linalg/pcg_result.py).
enum Reason : int { CONVERGED, MAX_ITERATIONS, NON_POSITIVE_CURVATURE, NON_FINITE };

constexpr int64_t LAST = 1, STABILIZED = 2;  // flags of an iteration
constexpr double MAX_DRIFT = 0.1;            // as in linalg/pcg.py

template <class T> __device__ __forceinline__ void add_products(T z, T r, T* sums) {
    sums[0] += z * r;
    sums[1] += r * r;
}

// What a system does with its curvature.
template <class T> struct Step {
    T curvature, alpha;
    bool active, moving;

    __device__ __forceinline__ Step(const double* before, const double* now)
        : curvature(T(now[CURVATURE])), alpha(0), active(before[ACTIVE] != 0), moving(active && curvature > T(0) && is_finite(curvature)) {
        if (moving) alpha = T(before[LAST_RZ]) / curvature;
    }
    __device__ __forceinline__ bool drifted(const double* now) const { return moving && T(now[DRIFT]) > T(MAX_DRIFT * MAX_DRIFT) * T(now[TRUTH]); }
};

// Adds z r and r r of the first residual and b b.
template <class T>
__device__ __forceinline__ void pcg_measure(int64_t unknowns, double* record, const T* inverse, const T* b, const T* r) {
    const Part part(unknowns);
    double* now = record + RECORD_NUMBERS * part.system;
    T sums[2] = {}, right[2] = {};
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) {
        add_products(inverse ? inverse[i] * r[i] : r[i], r[i], sums);
        right[1] += b[i] * b[i];
    }
    add_block_sums(sums, now + RZ);
    __syncthreads();  // the sums of a block go through the same shared memory
    add_block_sums(right, now + RIGHT - 1);
}

// x = x0 (null: zero) and p = z.
template <class T>
__device__ __forceinline__ void pcg_begin(int64_t unknowns, double* record, double tolerance, const T* inverse, const T* r, const T* x0, T* x, T* p) {
    const Part part(unknowns);
    double* now = record + RECORD_NUMBERS * part.system;
    const bool finite = is_finite(T(now[RZ])) && is_finite(T(now[RR]));
    const T norm = square_root(T(now[RR])), right = square_root(T(now[RIGHT]));
    const bool converged = norm <= T(tolerance) * right;
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) {
        x[i] = x0 ? x0[i] : T(0);
        p[i] = inverse ? inverse[i] * r[i] : r[i];
    }
    if (!part.writes()) return;
    now[LAST_RZ] = now[RZ], now[LAST_RR] = now[RR];
    now[ACTIVE] = finite && !converged;
    now[REASON] = !finite ? NON_FINITE : converged ? CONVERGED : MAX_ITERATIONS;
    now[RELATIVE] = right > T(0) ? norm / right : T(0);
}

template <class T> __device__ __forceinline__ void pcg_curvature(int64_t unknowns, double* now, const T* p, const T* Ap) {
    const Part part(unknowns);
    T sums[2] = {};
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) sums[0] += p[i] * Ap[i];
    add_block_sums(sums, now + RECORD_NUMBERS * part.system + CURVATURE);
}

// r_new = r - alpha Ap, and its products.
template <class T>
__device__ __forceinline__ void pcg_advance(int64_t unknowns, const double* before, double* now, const T* inverse, const T* Ap, const T* r, T* r_new) {
    const Part part(unknowns);
    const int64_t at = RECORD_NUMBERS * part.system;
    const T alpha = Step<T>(before + at, now + at).alpha;
    T sums[2] = {};
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) {
        // A system that has ended takes no step, whatever its product holds.
        const T residual = alpha == T(0) ? r[i] : r[i] - alpha * Ap[i];
        r_new[i] = residual;
        add_products(inverse ? inverse[i] * residual : residual, residual, sums);
    }
    add_block_sums(sums, now + at + RZ);
}

// Where this iteration would go, to look at its true residual.
template <class T>
__device__ __forceinline__ void pcg_trial(int64_t unknowns, const double* before, const double* now, const T* p, const T* x, T* out) {
    const Part part(unknowns);
    const int64_t at = RECORD_NUMBERS * part.system;
    const T alpha = Step<T>(before + at, now + at).alpha;
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) out[i] = alpha == T(0) ? x[i] : x[i] + alpha * p[i];
}

// How far the recurrence's residual is from the true one, b - Ax.
template <class T> __device__ __forceinline__ void pcg_drift(int64_t unknowns, double* now, const T* b, const T* Ax, const T* r_new) {
    const Part part(unknowns);
    T sums[2] = {};
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) {
        const T truth = b[i] - Ax[i], drift = truth - r_new[i];
        sums[0] += drift * drift;
        sums[1] += truth * truth;
    }
    add_block_sums(sums, now + RECORD_NUMBERS * part.system + DRIFT);
}

// Replacing a residual that is still right would only spoil the directions' conjugacy.
template <class T>
__device__ __forceinline__ void pcg_replace(int64_t unknowns, const double* before, double* now, const T* inverse, const T* b, const T* Ax, T* r_new) {
    const Part part(unknowns);
    const int64_t at = RECORD_NUMBERS * part.system;
    if (!Step<T>(before + at, now + at).drifted(now + at)) return;
    T sums[2] = {};
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) {
        const T truth = b[i] - Ax[i];
        r_new[i] = truth;
        add_products(inverse ? inverse[i] * truth : truth, truth, sums);
    }
    add_block_sums(sums, now + at + TRUE_RZ);
}

// Ends the iteration: x and p move, a system that broke takes its residual back, and the row is complete.
template <class T>
__device__ __forceinline__ void pcg_follow(int64_t unknowns, const double* before, double* now, double tolerance, int64_t flags, const T* inverse,
                                           const T* r, T* r_new, T* x, T* p) {
    const Part part(unknowns);
    before += RECORD_NUMBERS * part.system, now += RECORD_NUMBERS * part.system;
    const Step<T> step(before, now);
    const bool replaced = (flags & STABILIZED) && step.drifted(now);
    const double new_rz = now[replaced ? TRUE_RZ : RZ], new_rr = now[replaced ? TRUE_RR : RR];
    const bool good = step.moving && is_finite(T(new_rz)) && is_finite(T(new_rr));
    const T right = square_root(T(before[RIGHT]));
    const bool done = good && square_root(T(new_rr)) <= T(tolerance) * right;
    const bool goes_on = good && !done;
    const T taken = good ? step.alpha : T(0), share = goes_on ? T(new_rz) / T(before[LAST_RZ]) : T(0);
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) {
        if (step.moving && !good) r_new[i] = r[i];
        if (taken != T(0)) x[i] += taken * p[i];
        if (flags & LAST) continue;
        const T z = inverse ? inverse[i] * r_new[i] : r_new[i];
        p[i] = share == T(0) ? z : z + share * p[i];
    }
    if (!part.writes()) return;
    double reason = before[REASON];
    if (step.active && !step.moving) reason = is_finite(step.curvature) ? NON_POSITIVE_CURVATURE : NON_FINITE;
    if (step.moving && !good) reason = NON_FINITE;
    if (done) reason = CONVERGED;
    now[LAST_RZ] = goes_on ? new_rz : before[LAST_RZ];
    now[LAST_RR] = good ? new_rr : before[LAST_RR];
    now[ACTIVE] = goes_on;
    now[REASON] = reason;
    now[ITERATIONS] = before[ITERATIONS] + good;
    now[RELATIVE] = right > T(0) ? square_root(T(now[LAST_RR])) / right : T(0);
    now[RIGHT] = before[RIGHT];
}

template <class T> __device__ __forceinline__ void products(int64_t unknowns, const T* a, const T* b, const T* weights, double* out) {
    const Part part(unknowns);
    T sums[2] = {};
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) {
        if (weights)
            sums[1] += weights[i] * (a[i] - b[i]) * (a[i] - b[i]);
        else
            sums[0] += a[i] * b[i];
    }
    add_block_sums(sums, out + 2 * part.system);
}

}  // namespace diff3r

DIFF3R_KERNEL(pcg_measure, VECTOR_THREADS, (Diff3rSystems systems, double* record, const T* inverse, const T* b, const T* r),
              (systems.unknowns, record, inverse, b, r))
DIFF3R_KERNEL(pcg_begin, VECTOR_THREADS,
              (Diff3rSystems systems, double* record, double tolerance, const T* inverse, const T* r, const T* x0, T* x, T* p),
              (systems.unknowns, record, tolerance, inverse, r, x0, x, p))
DIFF3R_KERNEL(pcg_curvature, VECTOR_THREADS, (Diff3rSystems systems, double* now, const T* p, const T* Ap), (systems.unknowns, now, p, Ap))
DIFF3R_KERNEL(pcg_advance, VECTOR_THREADS,
              (Diff3rSystems systems, const double* before, double* now, const T* inverse, const T* Ap, const T* r, T* r_new),
              (systems.unknowns, before, now, inverse, Ap, r, r_new))
DIFF3R_KERNEL(pcg_trial, VECTOR_THREADS, (Diff3rSystems systems, const double* before, const double* now, const T* p, const T* x, T* out),
              (systems.unknowns, before, now, p, x, out))
DIFF3R_KERNEL(pcg_drift, VECTOR_THREADS, (Diff3rSystems systems, double* now, const T* b, const T* Ax, const T* r_new),
              (systems.unknowns, now, b, Ax, r_new))
DIFF3R_KERNEL(pcg_replace, VECTOR_THREADS,
              (Diff3rSystems systems, const double* before, double* now, const T* inverse, const T* b, const T* Ax, T* r_new),
              (systems.unknowns, before, now, inverse, b, Ax, r_new))
DIFF3R_KERNEL(pcg_follow, VECTOR_THREADS,
              (Diff3rSystems systems, const double* before, double* now, double tolerance, int64_t flags, const T* inverse, const T* r, T* r_new, T* x,
               T* p),
              (systems.unknowns, before, now, tolerance, flags, inverse, r, r_new, x, p))
DIFF3R_KERNEL(products, VECTOR_THREADS, (Diff3rSystems systems, const T* a, const T* b, const T* weights, double* sums),
              (systems.unknowns, a, b, weights, sums))
