// What a tile does for J v and for Jᵀ u; the Gauss-Newton product does both in a row.
#pragma once

#include "canvas.h"
#include "math/dual.h"
#include "rows.h"

namespace diff3r {

// Sums over a tile's pixels for one splat; see footprint_cotangent for what they mean.
template <class T> struct SplatSums {
    Pack<T> number[SPLAT_NUMBERS];  // six moments, three colors
    DIFF3R_INLINE SplatSums() {
        for (auto& x : number) x = Pack<T>(T(0));
    }
    DIFF3R_INLINE void write(T* slot) { write_sums<SPLAT_NUMBERS>(number, slot); }
};

DIFF3R_INLINE void clear_slot(float* slot) { std::memset(slot, 0, SPLAT_NUMBERS * sizeof(float)); }
DIFF3R_INLINE void clear_slot(double* slot) { std::memset(slot, 0, SPLAT_NUMBERS * sizeof(double)); }

// State of the transposed pass: u, and how much of u · image comes from splats that have not been visited yet.
template <class T> struct CotangentPass {
    Plane<T> transmittance;
    Plane<T> cotangent[3];
    Plane<T> behind;

    // After `cotangent` is set; `kept` is the tile's image by blocks.
    DIFF3R_INLINE void start(const T* kept) {
        for (int block = 0; block < Blocks<T>::count; ++block) {
            Pack<T> total(T(0));
            for (int c = 0; c < 3; ++c)
                total += cotangent[c].block[block] * Pack<T>::load(kept + c * TILE * TILE + block * Blocks<T>::lanes);
            behind.block[block] = total;
        }
    }

    // One splat at one block. weight is zero and alpha irrelevant where the splat is not taken.
    DIFF3R_INLINE void add(int block, const Splat<T>& s, const Pack<T>& weight, const Pack<T>& alpha, const PackMask<T>& pulls,
                           const Pack<T>& dx, const Pack<T>& dy, SplatSums<T>& sums) {
        const Pack<T> red = cotangent[0].block[block], green = cotangent[1].block[block], blue = cotangent[2].block[block];
        const Pack<T> light = red * s.color[0] + green * s.color[1] + blue * s.color[2];
        Pack<T>& rest = behind.block[block];
        rest = rest - weight * light;
        const Pack<T> pull = select(pulls, log_alpha_derivative(weight, alpha, light, rest), Pack<T>(T(0)));
        add_low_moments(pull, dx, dy, sums.number);
        sums.number[6] += weight * red;
        sums.number[7] += weight * green;
        sums.number[8] += weight * blue;
    }
};

// State of the tangent pass.
template <class T> struct TangentPass {
    using D = Dual<Pack<T>>;
    D transmittance[Blocks<T>::count];
    Plane<T> color[3];  // the tangent only

    DIFF3R_INLINE uint64_t start(const Tile<T>& tile) {
        Plane<T> rays;
        const uint64_t live = start_rays(tile, rays);
        for (int block = 0; block < Blocks<T>::count; ++block)
            transmittance[block] = D::with_tangent(rays.block[block], Pack<T>(T(0)));
        for (auto& plane : color) plane.fill(T(0));
        return live;
    }

    DIFF3R_INLINE static Footprint<D> footprint(const Splat<T>& s, const SplatTangent<T>& t) {
        const auto pair = [](T x, T dx) { return D::with_tangent(Pack<T>(x), Pack<T>(dx)); };
        return {pair(s.x, t.number[0]), pair(s.y, t.number[1]), pair(s.a, t.number[2]),
                pair(s.b, t.number[3]), pair(s.c, t.number[4]), pair(s.opacity, t.number[5])};
    }

    DIFF3R_INLINE void add(int block, const Splat<T>& s, const SplatTangent<T>& t, const D& weight) {
        for (int c = 0; c < 3; ++c) color[c].block[block] += weight.d[0] * s.color[c] + weight.v * t.number[6 + c];
    }

    // Tangent of the image, once all splats are in.
    DIFF3R_INLINE void finish(const T* background) {
        for (int block = 0; block < Blocks<T>::count; ++block) {
            const D& ray = transmittance[block];
            const Pack<T> tangent = select(ray.v < Pack<T>(T(0)), -ray.d[0], ray.d[0]);
            for (int c = 0; c < 3; ++c) color[c].block[block] += tangent * background[c];
        }
    }
};

}  // namespace diff3r
