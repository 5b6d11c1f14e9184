// The vector work of one iteration of conjugate gradients, for all systems of a batch: each vector is read once.
#include "warp_sums.cuh"

namespace diff3r {

constexpr int VECTOR_THREADS = 256;
constexpr int PER_THREAD = 4;

// The part of a system that this block works on; blocks do not straddle systems.
struct Part {
    int64_t system, begin, end;  // begin and end within [B, P]
    __device__ __forceinline__ explicit Part(int64_t unknowns) {
        const int64_t per_block = int64_t(VECTOR_THREADS) * PER_THREAD;
        const int64_t blocks = (unknowns + per_block - 1) / per_block;
        system = int64_t(blockIdx.x) / blocks;
        const int64_t first = int64_t(blockIdx.x) % blocks * per_block;
        begin = system * unknowns + first + int64_t(threadIdx.x);
        end = system * unknowns + (first + per_block < unknowns ? first + per_block : unknowns);
    }
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
    add_warp_sums<2>(both, 2, out);
}

template <class T> __device__ __forceinline__ void add_products(T z, T r, T* sums) {
    sums[0] += z * r;
    sums[1] += r * r;
}

template <class T>
__device__ __forceinline__ void advance(int64_t unknowns, const T* alpha, const T* inverse, const T* Ap, const T* r, T* r_new, double* out) {
    const Part part(unknowns);
    const T step = alpha[part.system];
    T sums[2] = {};
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) {
        // A system that has ended takes no step, whatever its product holds.
        const T residual = step == T(0) ? r[i] : r[i] - step * Ap[i];
        r_new[i] = residual;
        add_products(inverse ? inverse[i] * residual : residual, residual, sums);
    }
    add_block_sums(sums, out + 2 * part.system);
}

template <class T> __device__ __forceinline__ void measure(int64_t unknowns, const T* inverse, const T* r, double* out) {
    const Part part(unknowns);
    T sums[2] = {};
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) add_products(inverse ? inverse[i] * r[i] : r[i], r[i], sums);
    add_block_sums(sums, out + 2 * part.system);
}

template <class T> __device__ __forceinline__ void step(int64_t unknowns, const T* alpha, const T* p, T* x) {
    const Part part(unknowns);
    const T step = alpha[part.system];
    if (step == T(0)) return;
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) x[i] += step * p[i];
}

template <class T>
__device__ __forceinline__ void follow(int64_t unknowns, const T* alpha, const T* beta, const T* inverse, const T* r, T* x, T* p) {
    const Part part(unknowns);
    const T step = alpha[part.system], share = beta[part.system];
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) {
        const T z = inverse ? inverse[i] * r[i] : r[i];
        if (step != T(0)) x[i] += step * p[i];
        p[i] = share == T(0) ? z : z + share * p[i];
    }
}

template <class T> __device__ __forceinline__ void restore(int64_t unknowns, const uint8_t* good, const T* r, T* r_new) {
    const Part part(unknowns);
    if (good[part.system]) return;
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) r_new[i] = r[i];
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

DIFF3R_KERNEL(advance, VECTOR_THREADS,
              (Diff3rSystems systems, const T* alpha, const T* inverse, const T* Ap, const T* r, T* r_new, double* sums),
              (systems.unknowns, alpha, inverse, Ap, r, r_new, sums))
DIFF3R_KERNEL(measure, VECTOR_THREADS, (Diff3rSystems systems, const T* inverse, const T* r, double* sums), (systems.unknowns, inverse, r, sums))
DIFF3R_KERNEL(step, VECTOR_THREADS, (Diff3rSystems systems, const T* alpha, const T* p, T* x), (systems.unknowns, alpha, p, x))
DIFF3R_KERNEL(follow, VECTOR_THREADS,
              (Diff3rSystems systems, const T* alpha, const T* beta, const T* inverse, const T* r, T* x, T* p),
              (systems.unknowns, alpha, beta, inverse, r, x, p))
DIFF3R_KERNEL(restore, VECTOR_THREADS, (Diff3rSystems systems, const uint8_t* good, const T* r, T* r_new), (systems.unknowns, good, r, r_new))
DIFF3R_KERNEL(products, VECTOR_THREADS, (Diff3rSystems systems, const T* a, const T* b, const T* weights, double* sums),
              (systems.unknowns, a, b, weights, sums))
