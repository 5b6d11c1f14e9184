// J v on splats.
#include "parallel.h"
#include "tile_passes.h"

namespace diff3r {

template <class T> void rasterize_jvp(const Linearization<T>& lin, const SplatTangent<T>* tangents, T* rendered, int threads) {
    const Scene<T>& scene = lin.scene;
    const int64_t plane_size = scene.height * scene.width;
    parallel_for(scene.images() * scene.tiles(), lin.tile_threads(threads), [&](int64_t index, int) {
        const Tile<T> tile(lin, index);
        TangentPass<T> push;
        push.run(tile, TileAlphas<T>(lin, tile, index), tangents + tile.image * scene.gaussians, scene.background);
        for (int c = 0; c < 3; ++c) write_plane(tile, push.color[c], rendered + (tile.image * 3 + c) * plane_size, scene.width);
    });
}

template void rasterize_jvp(const Linearization<float>&, const SplatTangent<float>*, float*, int);
template void rasterize_jvp(const Linearization<double>&, const SplatTangent<double>*, double*, int);

}  // namespace diff3r
