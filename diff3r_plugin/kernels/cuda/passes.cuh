// What a thread does at each splat for the rendering, for J v and for Jᵀ u; products do several in a row.
#pragma once

#include "tile_walk.cuh"
#include "warp_sums.cuh"

namespace diff3r {

// The rendering itself, by the very weights that the transposed passes subtract from it again: of the rasterizer's own, rounded
// otherwise, what is left behind an opaque splat would be off by α / (1 - α) times the difference.
template <class T> struct PrimalPass {
    const DeviceScene<T>& scene;
    T x, y, transmittance, color[3];

    __device__ __forceinline__ PrimalPass(const DeviceScene<T>& scene_, const Pixel<T>& pixel)
        : scene(scene_), x(pixel.x), y(pixel.y), transmittance(pixel.ray()), color{T(0), T(0), T(0)} {}

    __device__ __forceinline__ bool live() const { return transmittance > T(0); }
    __device__ __forceinline__ void load(int, int) {}
    __device__ __forceinline__ void visit(const SharedSplats<T>& s, int slot) {
        const Coverage<T> covered = cover(s.footprint(slot), x, y, scene.alpha_cap);
        const Blend<T> step = blend(transmittance, covered.alpha, covered.visible, RayStop<T>::value);
        for (int c = 0; c < 3; ++c) color[c] += step.weight * s.color[c][slot];
    }
    // Once all splats are in.
    __device__ __forceinline__ void finish() {
        const T left = transmittance < T(0) ? -transmittance : transmittance;
        for (int c = 0; c < 3; ++c) color[c] += left * scene.background[c];
    }
};

// What is rendered at this thread's pixel. All threads of the block must call this together.
template <class T>
__device__ __forceinline__ PrimalPass<T> rendered_at(const DeviceScene<T>& scene, const Pixel<T>& pixel, SharedSplats<T>& splats) {
    PrimalPass<T> rendering(scene, pixel);
    walk_tile(scene, pixel, splats, rendering);
    rendering.finish();
    return rendering;
}

template <class T> struct SharedTangents {
    T number[SPLAT_NUMBERS][BLOCK];
    __device__ __forceinline__ void load(const T* tangents, int slot, int id) {
        for (int k = 0; k < SPLAT_NUMBERS; ++k) number[k][slot] = tangents[int64_t(SPLAT_NUMBERS) * id + k];
    }
};

// Tangent of the image at one pixel, and the rendering as above.
template <class T> struct TangentPass {
    using D = Dual<T>;
    const DeviceScene<T>& scene;
    SharedTangents<T>& shared;
    const T* tangents;
    T x, y;
    D transmittance;
    T color[3];  // the tangent
    T primal[3];

    __device__ __forceinline__ TangentPass(const DeviceScene<T>& scene_, SharedTangents<T>& shared_, const T* tangents_, const Pixel<T>& pixel)
        : scene(scene_), shared(shared_), tangents(tangents_), x(pixel.x), y(pixel.y),
          transmittance(D::with_tangent(pixel.ray(), T(0))), color{T(0), T(0), T(0)}, primal{T(0), T(0), T(0)} {}

    __device__ __forceinline__ bool live() const { return transmittance.v > T(0); }
    __device__ __forceinline__ void load(int slot, int id) { shared.load(tangents, slot, id); }
    __device__ __forceinline__ void visit(const SharedSplats<T>& s, int slot) {
        if (!live()) return;
        const Coverage<T> covered = cover(s.footprint(slot), x, y, scene.alpha_cap);
        if (!covered.visible) return;  // most pairs end here, with nothing of their tangents read
        T move[6];
        DIFF3R_UNROLL
        for (int k = 0; k < 6; ++k) move[k] = shared.number[k][slot];
        const T change = covered.free ? covered.alpha * log_alpha_tangent(move, covered.dx, covered.dy) : T(0);
        const Blend<D> step = blend(transmittance, D::with_tangent(covered.alpha, change), true, RayStop<T>::value);
        for (int c = 0; c < 3; ++c) {
            color[c] += step.weight.d[0] * s.color[c][slot] + step.weight.v * shared.number[6 + c][slot];
            primal[c] += step.weight.v * s.color[c][slot];
        }
    }
    // Once all splats are in.
    __device__ __forceinline__ void finish() {
        const T sign = transmittance.v < T(0) ? T(-1) : T(1);
        for (int c = 0; c < 3; ++c) {
            color[c] += sign * transmittance.d[0] * scene.background[c];
            primal[c] += sign * transmittance.v * scene.background[c];
        }
    }
};

// Cotangents of splats from the cotangent of one pixel: what lies behind a splat is what is left of u · image once
// everything up to the splat has been subtracted. Sums over the warp go to `moments` [I, N, 9]: six moments of the
// cotangent of ln(alpha) (footprint_cotangent) and three colors.
template <class T> struct CotangentPass {
    const DeviceScene<T>& scene;
    T* moments;
    T x, y, transmittance, cotangent[3], behind;

    __device__ __forceinline__ CotangentPass(const DeviceScene<T>& scene_, T* moments_, const Pixel<T>& pixel, const T* cotangent_, const T* rendered)
        : scene(scene_), moments(moments_), x(pixel.x), y(pixel.y), transmittance(pixel.ray()), behind(T(0)) {
        for (int c = 0; c < 3; ++c) {
            cotangent[c] = pixel.inside ? cotangent_[c] : T(0);
            if (pixel.inside) behind += cotangent[c] * rendered[c];
        }
    }

    __device__ __forceinline__ bool live() const { return transmittance > T(0); }
    __device__ __forceinline__ void load(int, int) {}
    __device__ __forceinline__ void visit(const SharedSplats<T>& s, int slot) {
        const Coverage<T> covered = cover(s.footprint(slot), x, y, scene.alpha_cap);
        const Blend<T> step = blend(transmittance, covered.alpha, covered.visible, RayStop<T>::value);
        // Votes and sums are over the whole warp, so no lane may leave on its own.
        if (!__any_sync(EVERY_LANE, step.taken)) return;
        T sums[16] = {};
        if (step.taken) {
            T light(0);
            DIFF3R_UNROLL
            for (int c = 0; c < 3; ++c) {
                light += cotangent[c] * s.color[c][slot];
                sums[6 + c] = step.weight * cotangent[c];
            }
            behind -= step.weight * light;
            if (covered.free) add_low_moments(log_alpha_derivative(step.weight, covered.alpha, light, behind), covered.dx, covered.dy, sums);
        }
        add_warp_sums<16>(sums, SPLAT_NUMBERS, moments + int64_t(SPLAT_NUMBERS) * s.id[slot]);
    }
};

}  // namespace diff3r
