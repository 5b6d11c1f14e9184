// Jᵀ W J v on splats, tile by tile: what J v leaves of a tile is weighted and goes straight into Jᵀ.
#include "parallel.h"
#include "tile_passes.h"

namespace diff3r {

template <class T>
void rasterize_product(const Linearization<T>& lin, const SplatTangent<T>* tangents, const T* weights, T* slots, int threads) {
    const Scene<T>& scene = lin.scene;
    parallel_for(scene.images() * scene.tiles(), lin.tile_threads(threads), [&](int64_t index, int) {
        const Tile<T> tile(lin, index);
        const TileAlphas<T> alphas(lin, tile, index);
        TangentPass<T> push;
        push.run(tile, alphas, tangents + tile.image * scene.gaussians, scene.background);

        CotangentPass<T> pull;
        Plane<T> weight;
        read_plane(tile, weights + tile.image * scene.height * scene.width, scene.width, T(0), weight);
        for (int c = 0; c < 3; ++c)
            for (int block = 0; block < Blocks<T>::count; ++block)
                pull.cotangent[c].block[block] = push.color[c].block[block] * weight.block[block];
        pull.start(lin.tiled_image.get() + index * 3 * TILE * TILE);
        sum_by_splat<SPLAT_NUMBERS>(tile, alphas, slots,
                                    [&](int64_t, const Splat<T>& s, const Touch<T>& touch, Pack<T>* sums) { pull.add(s, touch, sums); });
    });
}

template void rasterize_product(const Linearization<float>&, const SplatTangent<float>*, const float*, float*, int);
template void rasterize_product(const Linearization<double>&, const SplatTangent<double>*, const double*, double*, int);

}  // namespace diff3r
