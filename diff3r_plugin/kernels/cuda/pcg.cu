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
__global__ void advance_kernel(int64_t unknowns, const T* alpha, const T* inverse, const T* Ap, const T* r, T* r_new, double* out) {
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

template <class T> __global__ void measure_kernel(int64_t unknowns, const T* inverse, const T* r, double* out) {
    const Part part(unknowns);
    T sums[2] = {};
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) add_products(inverse ? inverse[i] * r[i] : r[i], r[i], sums);
    add_block_sums(sums, out + 2 * part.system);
}

template <class T> __global__ void step_kernel(int64_t unknowns, const T* alpha, const T* p, T* x) {
    const Part part(unknowns);
    const T step = alpha[part.system];
    if (step == T(0)) return;
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) x[i] += step * p[i];
}

template <class T>
__global__ void follow_kernel(int64_t unknowns, const T* alpha, const T* beta, const T* inverse, const T* r, T* x, T* p) {
    const Part part(unknowns);
    const T step = alpha[part.system], share = beta[part.system];
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) {
        const T z = inverse ? inverse[i] * r[i] : r[i];
        if (step != T(0)) x[i] += step * p[i];
        p[i] = share == T(0) ? z : z + share * p[i];
    }
}

template <class T> __global__ void restore_kernel(int64_t unknowns, const uint8_t* good, const T* r, T* r_new) {
    const Part part(unknowns);
    if (good[part.system]) return;
    for (int64_t i = part.begin; i < part.end; i += VECTOR_THREADS) r_new[i] = r[i];
}

template <class T> __global__ void products_kernel(int64_t unknowns, const T* a, const T* b, const T* weights, double* out) {
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

inline int64_t vector_blocks(const Diff3rSystems& s) { return s.systems * blocks_for(s.unknowns, VECTOR_THREADS * PER_THREAD); }

template <class T> const T* in(const void* p) { return static_cast<const T*>(p); }
template <class T> T* out(void* p) { return static_cast<T*>(p); }

template <class T>
int32_t advance(const Diff3rSystems* s, const void* alpha, const void* inverse, const void* Ap, const void* r, void* r_new, double* sums) {
    return launch(s->queue, vector_blocks(*s), VECTOR_THREADS, advance_kernel<T>, s->unknowns, in<T>(alpha), in<T>(inverse), in<T>(Ap), in<T>(r),
                  out<T>(r_new), sums);
}

template <class T> int32_t measure(const Diff3rSystems* s, const void* inverse, const void* r, double* sums) {
    return launch(s->queue, vector_blocks(*s), VECTOR_THREADS, measure_kernel<T>, s->unknowns, in<T>(inverse), in<T>(r), sums);
}

template <class T> int32_t step(const Diff3rSystems* s, const void* alpha, const void* p, void* x) {
    return launch(s->queue, vector_blocks(*s), VECTOR_THREADS, step_kernel<T>, s->unknowns, in<T>(alpha), in<T>(p), out<T>(x));
}

template <class T>
int32_t follow(const Diff3rSystems* s, const void* alpha, const void* beta, const void* inverse, const void* r, void* x, void* p) {
    return launch(s->queue, vector_blocks(*s), VECTOR_THREADS, follow_kernel<T>, s->unknowns, in<T>(alpha), in<T>(beta), in<T>(inverse), in<T>(r),
                  out<T>(x), out<T>(p));
}

template <class T> int32_t restore(const Diff3rSystems* s, const uint8_t* good, const void* r, void* r_new) {
    return launch(s->queue, vector_blocks(*s), VECTOR_THREADS, restore_kernel<T>, s->unknowns, good, in<T>(r), out<T>(r_new));
}

template <class T> int32_t products(const Diff3rSystems* s, const void* a, const void* b, const void* weights, double* sums) {
    return launch(s->queue, vector_blocks(*s), VECTOR_THREADS, products_kernel<T>, s->unknowns, in<T>(a), in<T>(b), in<T>(weights), sums);
}

}  // namespace diff3r

DIFF3R_EXPORT(products, (const Diff3rSystems* s, const void* a, const void* b, const void* weights, double* sums), (s, a, b, weights, sums))
DIFF3R_EXPORT(advance,
              (const Diff3rSystems* s, const void* alpha, const void* inverse, const void* Ap, const void* r, void* r_new, double* sums),
              (s, alpha, inverse, Ap, r, r_new, sums))
DIFF3R_EXPORT(measure, (const Diff3rSystems* s, const void* inverse, const void* r, double* sums), (s, inverse, r, sums))
DIFF3R_EXPORT(step, (const Diff3rSystems* s, const void* alpha, const void* p, void* x), (s, alpha, p, x))
DIFF3R_EXPORT(follow,
              (const Diff3rSystems* s, const void* alpha, const void* beta, const void* inverse, const void* r, void* x, void* p),
              (s, alpha, beta, inverse, r, x, p))
DIFF3R_EXPORT(restore, (const Diff3rSystems* s, const uint8_t* good, const void* r, void* r_new), (s, good, r, r_new))
