// The diagonal of Jᵀ W J in θ from ten sums over each splat's pixels, and what the rasterizer needs to make them.
#include "chart_rows.cuh"
#include "math/gram_diagonal.h"

namespace diff3r {

constexpr int MOVES_THREADS = 128;

// How each splat moves with its Gaussian's mean; one thread a splat.
template <class T, int BASES> __device__ __forceinline__ void mean_moves(const DeviceScene<T>& scene, T* out) {
    const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= scene.images() * scene.gaussians) return;
    const int flags = scene.flags[at];
    if (!(flags & VISIBLE)) return;  // in no tile's list, so nobody reads it
    const int64_t image = at / scene.gaussians, n = image / scene.views * scene.gaussians + at % scene.gaussians;
    SeenGaussian<T> one;
    const Seen<T> seen = one.template load<BASES>(scene, n, image, flags);
    T move[MEAN_MOVE];
    mean_move(seen, one.camera, one.projection, move);
    for (int k = 0; k < MEAN_MOVE; ++k) out[MEAN_MOVE * at + k] = move[k];
}

template <class T, int BASES>
__device__ __forceinline__ void chart_gram_diagonal(const DeviceScene<T>& scene, const ChartCotangent<T>& out, const T* sums) {
    __shared__ T rows[Row<BASES>::stride * GAUSSIAN_THREADS];
    const GaussianBlock<T> block(scene.gaussians);
    if (block.mine) {
        const LocalGaussian<T> local(out.chart, scene, block);
        T* row = rows + Row<BASES>::stride * int(threadIdx.x);
        T diagonal[CORE], rest[3 * MAX_BASES];
        zero(diagonal, CORE);
        DIFF3R_UNROLL
        for (int k = 0; k < 3 * (BASES - 1); ++k) rest[k] = T(0);
        for (int64_t view = 0; view < scene.views; ++view) {
            const int64_t image = block.scene * scene.views + view, at = image * scene.gaussians + block.within;
            const int flags = scene.flags[at];
            if (!(flags & VISIBLE)) continue;
            SeenGaussian<T> one;
            const Seen<T> seen = one.template load<BASES>(scene, block.n, image, flags);
            T own[DIAGONAL_SUMS];
            for (int k = 0; k < DIAGONAL_SUMS; ++k) own[k] = sums[DIAGONAL_SUMS * at + k];
            add_image(seen, one.camera, one.projection, local.covariance, own, diagonal, rest);
        }
        for (int j = 0; j < 3; ++j) row[j] = local.size * local.size * diagonal[j];
        for (int j = 0; j < 6; ++j) row[Row<BASES>::covariance + j] = diagonal[3 + j];
        row[Row<BASES>::opacity] = local.opacity_slope * local.opacity_slope * diagonal[9];
        for (int c = 0; c < 3; ++c) row[Row<BASES>::constant(c)] = local.movable * diagonal[10 + c];
        DIFF3R_UNROLL
        for (int k = 0; k < 3 * (BASES - 1); ++k) row[Row<BASES>::rest(k)] = local.movable * rest[k];
    }
    out.template write<BASES>(block, rows);
}

}  // namespace diff3r

DIFF3R_KERNEL_OF_BASES(mean_moves, MOVES_THREADS, (Diff3rDeviceScene scene, T* out), (DeviceScene<T>(scene), out))
DIFF3R_KERNEL_OF_BASES(chart_gram_diagonal, GAUSSIAN_THREADS, (Diff3rDeviceScene scene, Diff3rChart chart, const T* sums, T* out),
                       (DeviceScene<T>(scene), ChartCotangent<T>{Chart<T>(chart), out, nullptr, nullptr, nullptr}, sums))
