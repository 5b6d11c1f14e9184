// Per splat, the ten sums over pixels from which the diagonal of Jᵀ W J in θ is made (math/gram_diagonal.h).
#include "math/gram_diagonal.h"
#include "passes.cuh"

namespace diff3r {
namespace {

template <class T> struct SharedMoves {
    static constexpr int STRIDE = MEAN_MOVE | 1;  // odd: the threads that load meet in no bank
    T number[STRIDE * BLOCK];
};

template <class T> struct GramDiagonal {
    const DeviceScene<T>& scene;
    SharedMoves<T>& shared;
    const T* moves;
    T* out;
    T x, y, transmittance, weight, behind[3];

    __device__ __forceinline__ GramDiagonal(const DeviceScene<T>& scene_, SharedMoves<T>& shared_, const T* moves_, T* out_, const Pixel<T>& pixel,
                                            const T* weights, const T* rendered)
        : scene(scene_), shared(shared_), moves(moves_), out(out_), x(pixel.x), y(pixel.y), transmittance(pixel.ray()),
          weight(pixel.inside ? weights[pixel.index] : T(0)), behind{rendered[0], rendered[1], rendered[2]} {}

    __device__ __forceinline__ bool live() const { return transmittance > T(0); }
    __device__ __forceinline__ void load(int slot, int id) {
        for (int k = 0; k < MEAN_MOVE; ++k) shared.number[SharedMoves<T>::STRIDE * slot + k] = moves[int64_t(MEAN_MOVE) * id + k];
    }
    __device__ __forceinline__ void visit(const SharedSplats<T>& s, int slot) {
        const Coverage<T> covered = cover(s.footprint(slot), x, y, scene.alpha_cap);
        const Blend<T> step = blend(transmittance, covered.alpha, covered.visible, RayStop<T>::value);
        if (!__any_sync(EVERY_LANE, step.taken)) return;
        T sums[16] = {};
        if (step.taken) {
            T derivative[3];
            DIFF3R_UNROLL
            for (int c = 0; c < 3; ++c) {
                const T light = s.color[c][slot];
                behind[c] -= step.weight * light;
                derivative[c] = covered.free ? log_alpha_derivative(step.weight, covered.alpha, light, behind[c]) : T(0);
            }
            add_pixel(weight, step.weight, derivative, covered.dx, covered.dy, shared.number + SharedMoves<T>::STRIDE * slot, scene.bases > 1, sums);
        }
        add_warp_sums<16>(sums, DIAGONAL_SUMS, out + int64_t(DIAGONAL_SUMS) * s.id[slot]);
    }
};

}  // namespace

template <class T>
__device__ __forceinline__ void rasterize_gram_diagonal(const DeviceScene<T>& scene, const T* weights, const T* moves, T* out) {
    __shared__ SharedSplats<T> splats;
    __shared__ SharedMoves<T> shared;
    const Pixel<T> pixel(scene);
    const PrimalPass<T> rendering = rendered_at(scene, pixel, splats);
    GramDiagonal<T> visitor(scene, shared, moves, out, pixel, weights, rendering.color);
    walk_tile(scene, pixel, splats, visitor);
}

}  // namespace diff3r

DIFF3R_KERNEL(rasterize_gram_diagonal, BLOCK, (Diff3rDeviceScene scene, const T* weights, const T* moves, T* out),
              (DeviceScene<T>(scene), weights, moves, out))
