// What the Gram matrices and their diagonal have in common: the image's derivative by ln(alpha), channel by channel.
#pragma once

#include "tile_passes.h"

namespace diff3r {

template <class T> struct GramPass {
    Plane<T> weight, behind[3];

    GramPass(const Linearization<T>& lin, const Tile<T>& tile, int64_t index, const T* weights) {
        read_plane(tile, weights + tile.image * lin.scene.height * lin.scene.width, lin.scene.width, T(0), weight);
        std::memcpy(static_cast<void*>(behind), lin.tiled_image.get() + index * 3 * TILE * TILE, sizeof(behind));
    }

    DIFF3R_INLINE void derivatives(const Splat<T>& s, const Touch<T>& touch, Pack<T>* out) {
        for (int c = 0; c < 3; ++c) {
            Pack<T>& rest = behind[c].block[touch.block];
            const Pack<T> light(s.color[c]);
            rest = rest - touch.weight * light;
            out[c] = select(touch.free, log_alpha_derivative(touch.weight, touch.alpha, light, rest), Pack<T>(T(0)));
        }
    }
};

}  // namespace diff3r
