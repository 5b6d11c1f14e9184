// Per splat, the sums over pixels that the Gram matrix of Jᵀ W J in its nine numbers is made of (splat_gram).
#include "passes.cuh"

namespace diff3r {
namespace {

template <class T> struct Gram {
    const DeviceScene<T>& scene;
    T* out;
    T x, y, transmittance, weight, behind[3];
    WarpAdder<WARP> most;
    WarpAdder<2> rest;

    __device__ __forceinline__ Gram(const DeviceScene<T>& scene_, T* out_, const Pixel<T>& pixel, const T* weights, const T* rendered)
        : scene(scene_), out(out_), x(pixel.x), y(pixel.y), transmittance(pixel.ray()), weight(pixel.inside ? weights[pixel.index] : T(0)) {
        for (int c = 0; c < 3; ++c) behind[c] = rendered[c];
    }

    __device__ __forceinline__ bool live() const { return transmittance > T(0); }
    __device__ __forceinline__ void load(int, int) {}
    __device__ __forceinline__ void visit(const SharedSplats<T>& s, int slot) {
        const SeenSplat<T> splat = s.splat(slot);
        const Coverage<T> covered = cover(splat.footprint, x, y, scene.alpha_cap);
        const Blend<T> step = blend(transmittance, covered.alpha, covered.visible, RayStop<T>::value);
        if (!__any_sync(EVERY_LANE, step.taken)) return;
        static_assert(GRAM_NUMBERS == WARP + 2, "summed in two parts");
        const bool moves = step.taken && covered.free;
        T sums[GRAM_NUMBERS] = {}, energy(0);
        DIFF3R_UNROLL
        for (int c = 0; c < 3; ++c) {
            behind[c] -= step.weight * splat.color[c];
            const T given = log_alpha_derivative(step.weight, covered.alpha, splat.color[c], behind[c]);
            const T derivative = moves ? given : T(0);
            energy += derivative * derivative;
            low_moments(weight * derivative * step.weight, covered.dx, covered.dy, sums + 15 + 6 * c);
        }
        add_moments(weight * energy, covered.dx, covered.dy, sums);
        sums[GRAM_NUMBERS - 1] = weight * step.weight * step.weight;
        T* target = out + int64_t(GRAM_NUMBERS) * splat.id;
        most.add(sums, target);
        rest.add(sums + WARP, target + WARP);
    }
};

}  // namespace

template <class T> __device__ __forceinline__ void rasterize_gram(const DeviceScene<T>& scene, const T* weights, T* out) {
    __shared__ SharedSplats<T> splats;
    const Pixel<T> pixel(scene);
    const PrimalPass<T> rendering = rendered_at(scene, pixel, splats);
    Gram<T> visitor(scene, out, pixel, weights, rendering.color);
    walk_tile(scene, pixel, splats, visitor);
}

}  // namespace diff3r

DIFF3R_KERNEL(rasterize_gram, BLOCK, (Diff3rDeviceScene scene, const T* weights, T* out), (DeviceScene<T>(scene), weights, out))
