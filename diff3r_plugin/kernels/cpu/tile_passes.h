// What a tile does for J v, and for everything that is summed over the pixels of each splat: Jᵀ u and Gram matrices.
#pragma once

#include "alphas.h"
#include "rows.h"

namespace diff3r {

// One splat at one block of pixels.
template <class T> struct Touch {
    int block;
    Pack<T> alpha, weight;  // zero at pixels that do not take the splat
    Pack<T> dx, dy;         // from the splat's center to the pixel's
    PackMask<T> free;       // the pixel takes it, and alpha has a derivative

    // Takes the splat's light from the rays.
    DIFF3R_INLINE Touch(const Tile<T>& tile, const Splat<T>& s, int block_, const T* alphas, Pack<T>& ray)
        : block(block_), alpha(Pack<T>::load(alphas)), weight(ray * alpha), dx(tile.block_x(block_) - s.x), dy(tile.block_y(block_) - s.y),
          free(both(alpha > Pack<T>(T(0)), alpha < Pack<T>(T(ALPHA_CAP)))) {
        ray = ray - weight;
        __builtin_prefetch(alphas + REGISTERS_AHEAD * Pack<T>::lanes);
    }
};

// Sums over the pixels of each splat of a tile, into its slot. add(i, splat, touch, sums) adds those of one block.
template <int numbers, class T, class Add>
DIFF3R_INLINE void sum_by_splat(const Tile<T>& tile, const TileAlphas<T>& alphas, T* slots, const Add& add) {
    Plane<T> transmittance;
    transmittance.fill(T(1));
    const T* at = alphas.begin();
    for (int64_t i = tile.begin; i < tile.end; ++i) {
        T* slot = slots + int64_t(tile.list[i].slot) * numbers;
        uint64_t blocks = alphas.blocks(i);
        __builtin_prefetch(slots + int64_t(tile.list[tile.soon(i)].slot) * numbers, 1);
        if (!blocks) {
            std::memset(slot, 0, numbers * sizeof(T));
            continue;
        }
        const Splat<T>& s = tile.splat(i);
        Pack<T> sums[numbers];
        for (auto& x : sums) x = Pack<T>(T(0));
        for (; blocks; at += Pack<T>::lanes) {
            const int block = take_lowest(blocks);
            add(i, s, Touch<T>(tile, s, block, at, transmittance.block[block]), sums);
        }
        write_sums<numbers>(sums, slot);
    }
}

// Jᵀ u: u, and how much of u · image comes from splats that have not been visited yet.
template <class T> struct CotangentPass {
    Plane<T> cotangent[3];
    Plane<T> behind;

    // After `cotangent` is set; `image` is the tile's, by blocks.
    DIFF3R_INLINE void start(const T* image) {
        for (int block = 0; block < Blocks<T>::count; ++block) {
            Pack<T> total(T(0));
            for (int c = 0; c < 3; ++c)
                total += cotangent[c].block[block] * Pack<T>::load(image + c * TILE * TILE + block * Blocks<T>::lanes);
            behind.block[block] = total;
        }
    }

    // Six moments (footprint_cotangent) and three colors.
    DIFF3R_INLINE void add(const Splat<T>& s, const Touch<T>& touch, Pack<T>* sums) {
        const Pack<T> red = cotangent[0].block[touch.block], green = cotangent[1].block[touch.block], blue = cotangent[2].block[touch.block];
        const Pack<T> light = red * s.color[0] + green * s.color[1] + blue * s.color[2];
        Pack<T>& rest = behind.block[touch.block];
        rest = rest - touch.weight * light;
        const Pack<T> pull = select(touch.free, log_alpha_derivative(touch.weight, touch.alpha, light, rest), Pack<T>(T(0)));
        add_low_moments(pull, touch.dx, touch.dy, sums);
        sums[6] += touch.weight * red;
        sums[7] += touch.weight * green;
        sums[8] += touch.weight * blue;
    }
};

// J v: tangents of the rays and of the image.
template <class T> struct TangentPass {
    Plane<T> transmittance, ray_tangent;
    Plane<T> color[3];  // the tangent only

    DIFF3R_INLINE void run(const Tile<T>& tile, const TileAlphas<T>& alphas, const SplatTangent<T>* tangents, const T* background) {
        transmittance.fill(T(1));
        ray_tangent.fill(T(0));
        for (auto& plane : color) plane.fill(T(0));
        const T* at = alphas.begin();
        for (int64_t i = tile.begin; i < tile.end; ++i) {
            uint64_t blocks = alphas.blocks(i);
            const Splat<T>& s = tile.splat(i);
            __builtin_prefetch(tangents + tile.list[tile.soon(i)].splat);
            const SplatTangent<T>& t = tangents[tile.list[i].splat];
            for (; blocks; at += Pack<T>::lanes) {
                const int block = take_lowest(blocks);
                add(s, t, Touch<T>(tile, s, block, at, transmittance.block[block]));
            }
        }
        for (int block = 0; block < Blocks<T>::count; ++block)
            for (int c = 0; c < 3; ++c) color[c].block[block] += ray_tangent.block[block] * background[c];
    }

  private:
    DIFF3R_INLINE void add(const Splat<T>& s, const SplatTangent<T>& t, const Touch<T>& touch) {
        using P = Pack<T>;
        const P move = select(touch.free, log_alpha_tangent(t.log_alpha, touch.dx, touch.dy), P(T(0)));
        P& ray = ray_tangent.block[touch.block];
        // of ray times alpha, by the ray and by ln(alpha)
        const P weight = ray * touch.alpha + touch.weight * move;
        ray = ray - weight;
        for (int c = 0; c < 3; ++c) color[c].block[touch.block] += weight * s.color[c] + touch.weight * t.color[c];
    }
};

}  // namespace diff3r
