// From splats to the image.
#include "canvas.h"
#include "parallel.h"

namespace diff3r {

template <class T> void rasterize(Linearization<T>& lin, T* rendered, int threads) {
    using P = Pack<T>;
    const Scene<T>& scene = lin.scene;
    const int64_t plane_size = scene.height * scene.width;
    T* kept = lin.tiled_image.get();  // null when nothing is to be kept
    parallel_for(scene.images() * scene.tiles(), lin.tile_threads(threads), [&](int64_t index, int) {
        const Tile<T> tile(lin, index);
        Plane<T> transmittance, color[3];
        for (auto& plane : color) plane.fill(T(0));
        uint64_t live = start_rays(tile, transmittance);
        for (int64_t i = tile.begin; i < tile.end && live; ++i) {
            const Splat<T>& s = tile.splat(i);
            const Footprint<P> f = footprint(s);
            for (uint64_t blocks = tile.blocks_under(s) & live; blocks;) {
                const int block = take_lowest(blocks);
                const Coverage<P> covered = cover(f, tile.block_x(block), tile.block_y(block));
                P& ray = transmittance.block[block];
                const Blend<P> step = blend(ray, covered.alpha, covered.visible);
                for (int c = 0; c < 3; ++c) color[c].block[block] += step.weight * s.color[c];
                if (ended(ray)) live &= ~(1ull << block);
            }
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
