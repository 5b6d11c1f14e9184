// From splats to the image.
#include <vector>

#include "alphas.h"
#include "parallel.h"

namespace diff3r {

template <class T> void rasterize(Linearization<T>& lin, T* rendered, int threads) {
    using P = Pack<T>;
    const Scene<T>& scene = lin.scene;
    const int64_t plane_size = scene.height * scene.width, tiles = scene.images() * scene.tiles();
    T* kept = lin.tiled_image.get();  // null when nothing is to be kept
    if (kept) lin.alphas.prepare(tiles, lin.intersections, lin.intersections * TILE * TILE);
    threads = lin.tile_threads(threads);
    std::vector<Room<T>> rooms(size_t(threads < 1 ? 1 : threads));
    parallel_for(tiles, threads, [&](int64_t index, int thread) {
        const Tile<T> tile(lin, index);
        Plane<T> transmittance, color[3];
        for (auto& plane : color) plane.fill(T(0));
        const auto light = [&](int block, const Splat<T>& s, const P& weight) {
            for (int c = 0; c < 3; ++c) color[c].block[block] += weight * s.color[c];
        };
        if (kept) {
            AlphaWriter<T> writer(lin.alphas, rooms[size_t(thread)]);
            const int64_t end = march(tile, transmittance, writer, light);
            writer.finish(index, end, tile.end);
        } else {
            KeepNothing<T> nothing;
            march(tile, transmittance, nothing, light);
        }
        for (int c = 0; c < 3; ++c) {
            for (int block = 0; block < Blocks<T>::count; ++block)
                color[c].block[block] += magnitude(transmittance.block[block]) * scene.background[c];
            write_plane(tile, color[c], rendered + (tile.image * 3 + c) * plane_size, scene.width);
            if (kept) std::memcpy(kept + (index * 3 + c) * TILE * TILE, color[c].pixels(), sizeof(Plane<T>));
        }
    });
}

template void rasterize(Linearization<float>&, float*, int);
template void rasterize(Linearization<double>&, double*, int);

}  // namespace diff3r
