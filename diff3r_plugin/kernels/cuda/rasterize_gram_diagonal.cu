// Per splat, the ten sums over pixels from which the diagonal of Jᵀ W J in θ is made (math/gram_diagonal.h).
#include "math/gram_diagonal.h"
#include "passes.cuh"

namespace diff3r {
namespace {

template <class T> struct GramDiagonal {
    const DeviceScene<T>& scene;
    const T* moves;  // read where they are: in shared memory they would take more than the splats, and keep other blocks out
    T* out;
    T x, y, transmittance, weight, behind[3];
    WarpAdder<DIAGONAL_SUMS> adder;

    __device__ __forceinline__ GramDiagonal(const DeviceScene<T>& scene_, const T* moves_, T* out_, const Pixel<T>& pixel,
                                            const T* weights, const T* rendered)
        : scene(scene_), moves(moves_), out(out_), x(pixel.x), y(pixel.y), transmittance(pixel.ray()),
          weight(pixel.inside ? weights[pixel.index] : T(0)), behind{rendered[0], rendered[1], rendered[2]} {}

    __device__ __forceinline__ bool live() const { return transmittance > T(0); }
    __device__ __forceinline__ void load(int, int) {}
    __device__ __forceinline__ void visit(const SharedSplats<T>& s, int slot) {
        const SeenSplat<T> splat = s.splat(slot);
        const Coverage<T> covered = cover(splat.footprint, x, y, scene.alpha_cap);
        const Blend<T> step = blend(transmittance, covered.alpha, covered.visible, RayStop<T>::value);
        if (!__any_sync(EVERY_LANE, step.taken)) return;
        const bool changes = step.taken && covered.free;
        T derivative[3], sums[DIAGONAL_SUMS] = {};
        DIFF3R_UNROLL
        for (int c = 0; c < 3; ++c) {
            behind[c] -= step.weight * splat.color[c];
            const T given = log_alpha_derivative(step.weight, covered.alpha, splat.color[c], behind[c]);
            derivative[c] = changes ? given : T(0);
        }
        add_pixel(weight, step.weight, derivative, covered.dx, covered.dy, moves + int64_t(MEAN_MOVE) * splat.id, scene.bases > 1, sums);
        adder.add(sums, out + int64_t(DIAGONAL_SUMS) * splat.id);
    }
};

}  // namespace

template <class T>
__device__ __forceinline__ void rasterize_gram_diagonal(const DeviceScene<T>& scene, const T* weights, const T* moves, T* out) {
    __shared__ SharedSplats<T> splats;
    const Pixel<T> pixel(scene);
    const PrimalPass<T> rendering = rendered_at(scene, pixel, splats);
    GramDiagonal<T> visitor(scene, moves, out, pixel, weights, rendering.color);
    walk_tile(scene, pixel, splats, visitor);
}

}  // namespace diff3r

DIFF3R_KERNEL(rasterize_gram_diagonal, BLOCK, (Diff3rDeviceScene scene, const T* weights, const T* moves, T* out),
              (DeviceScene<T>(scene), weights, moves, out))
