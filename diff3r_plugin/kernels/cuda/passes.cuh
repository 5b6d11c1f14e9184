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
        const SeenSplat<T> splat = s.splat(slot);
        const Coverage<T> covered = cover(splat.footprint, x, y, scene.alpha_cap);
        const Blend<T> step = blend(transmittance, covered.alpha, covered.visible, RayStop<T>::value);
        for (int c = 0; c < 3; ++c) color[c] += step.weight * splat.color[c];
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

// Tangents of a batch of splats.
template <class T> struct SharedTangents {
    Four<T> low[BLOCK], high[BLOCK];  // coefficients 0 to 3 of ln(alpha); 4, 5, red and green
    T blue[BLOCK];
    __device__ __forceinline__ void load(const T* tangents, int slot, int id) {
        const T* k = tangents + int64_t(SPLAT_NUMBERS) * id;
        low[slot] = {k[0], k[1], k[2], k[3]};
        high[slot] = {k[4], k[5], k[6], k[7]};
        blue[slot] = k[8];
    }
};

// Tangent of the image at one pixel, and the rendering as above. A splat of weight w = transmittance alpha takes w from the
// transmittance, so the tangent of that loses the tangent of w.
template <class T> struct TangentPass {
    const DeviceScene<T>& scene;
    SharedTangents<T>& shared;
    const T* tangents;
    T x, y, transmittance;
    T moved;     // tangent of the transmittance, whose sign says nothing
    T color[3];  // the tangent
    T primal[3];

    __device__ __forceinline__ TangentPass(const DeviceScene<T>& scene_, SharedTangents<T>& shared_, const T* tangents_, const Pixel<T>& pixel)
        : scene(scene_), shared(shared_), tangents(tangents_), x(pixel.x), y(pixel.y), transmittance(pixel.ray()), moved(T(0)),
          color{T(0), T(0), T(0)}, primal{T(0), T(0), T(0)} {}

    __device__ __forceinline__ bool live() const { return transmittance > T(0); }
    __device__ __forceinline__ void load(int slot, int id) { shared.load(tangents, slot, id); }
    __device__ __forceinline__ void visit(const SharedSplats<T>& s, int slot) {
        const SeenSplat<T> splat = s.splat(slot);
        const Coverage<T> covered = cover(splat.footprint, x, y, scene.alpha_cap);
        const Blend<T> step = blend(transmittance, covered.alpha, covered.visible, RayStop<T>::value);
        const Four<T> low = shared.low[slot], high = shared.high[slot];
        const T move[6] = {low.a, low.b, low.c, low.d, high.a, high.b}, shade[3] = {high.c, high.d, shared.blue[slot]};
        const T slope = log_alpha_tangent(move, covered.dx, covered.dy), change = covered.free ? slope : T(0);
        const T moved_weight = step.taken ? covered.alpha * moved + step.weight * change : T(0);
        for (int c = 0; c < 3; ++c) {
            color[c] += moved_weight * splat.color[c];
            color[c] += step.weight * shade[c];
            primal[c] += step.weight * splat.color[c];
        }
        moved -= moved_weight;
    }
    // Once all splats are in.
    __device__ __forceinline__ void finish() {
        const T left = transmittance < T(0) ? -transmittance : transmittance;
        for (int c = 0; c < 3; ++c) {
            color[c] += moved * scene.background[c];
            primal[c] += left * scene.background[c];
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
    WarpAdder<SPLAT_NUMBERS> adder;

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
        const SeenSplat<T> splat = s.splat(slot);
        const Coverage<T> covered = cover(splat.footprint, x, y, scene.alpha_cap);
        const Blend<T> step = blend(transmittance, covered.alpha, covered.visible, RayStop<T>::value);
        // Votes and sums are over the whole warp, so no lane may leave on its own; where a splat is not taken, its weight is zero.
        if (!__any_sync(EVERY_LANE, step.taken)) return;
        const T light = cotangent[0] * splat.color[0] + cotangent[1] * splat.color[1] + cotangent[2] * splat.color[2];
        behind -= step.weight * light;
        const T derivative = log_alpha_derivative(step.weight, covered.alpha, light, behind);
        T sums[SPLAT_NUMBERS];
        low_moments(step.taken && covered.free ? derivative : T(0), covered.dx, covered.dy, sums);
        for (int c = 0; c < 3; ++c) sums[6 + c] = step.weight * cotangent[c];
        adder.add(sums, moments + int64_t(SPLAT_NUMBERS) * splat.id);
    }
};

}  // namespace diff3r
