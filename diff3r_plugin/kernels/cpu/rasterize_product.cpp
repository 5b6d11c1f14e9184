// Jᵀ W J v on splats, tile by tile. The alphas of the tangent pass wait in a buffer for the transposed pass (while the
// buffer lasts), so exp is evaluated once.
#include <vector>

#include "parallel.h"
#include "tile_passes.h"

namespace diff3r {
namespace {

constexpr int64_t KEPT_BLOCKS = 8192;   // alphas of one register each: half a megabyte, within the L2 cache
constexpr int64_t KEPT_SPLATS = 4096;

// What the tangent pass leaves for the transposed one: per splat the set of blocks it visited, per block its alphas,
// zero where the splat is not taken.
template <class T> struct Memory {
    Buffer<T> alphas{KEPT_BLOCKS * Pack<T>::lanes};
    Buffer<uint64_t> visited{KEPT_SPLATS};
};

}  // namespace

template <class T>
void rasterize_product(const Linearization<T>& lin, const SplatTangent<T>* tangents, const T* weights, T* slots, int threads) {
    using P = Pack<T>;
    using D = Dual<P>;
    const Scene<T>& scene = lin.scene;
    const P zero(T(0));
    std::vector<Memory<T>> memories(size_t(threads < 1 ? 1 : threads));
    parallel_for(scene.images() * scene.tiles(), lin.tile_threads(threads), [&](int64_t index, int thread) {
        Memory<T>& memory = memories[size_t(thread)];
        const Tile<T> tile(lin, index);
        const SplatTangent<T>* image_tangents = tangents + tile.image * scene.gaussians;
        TangentPass<T> push;
        Plane<T> rays_later;  // as they were when the memory was full
        uint64_t live = push.start(tile), live_later = 0;
        int64_t used = 0, full_at = tile.end;

        const auto remember_rays = [&](int64_t i) {
            full_at = i;
            live_later = live;
            for (int block = 0; block < Blocks<T>::count; ++block) rays_later.block[block] = push.transmittance[block].v;
        };
        int64_t i = tile.begin;
        for (; i < tile.end && live; ++i) {
            const Splat<T>& s = tile.splat(i);
            __builtin_prefetch(image_tangents + tile.list[tile.soon(i)].splat);
            const SplatTangent<T>& t = image_tangents[tile.list[i].splat];
            const Footprint<D> f = TangentPass<T>::footprint(s, t);
            if (full_at == tile.end && (used + Blocks<T>::count > KEPT_BLOCKS || i - tile.begin >= KEPT_SPLATS)) remember_rays(i);
            const bool keep = full_at == tile.end;
            uint64_t visited = 0;
            for (uint64_t blocks = tile.blocks_under(s) & live; blocks;) {
                const int block = take_lowest(blocks);
                const Coverage<D> covered =
                    cover(f, D::with_tangent(tile.block_x(block), zero), D::with_tangent(tile.block_y(block), zero));
                if (!any(covered.visible)) continue;
                D& ray = push.transmittance[block];
                const Blend<D> step = blend(ray, covered.alpha, covered.visible);
                push.add(block, s, t, step.weight);
                if (ended(ray.v)) live &= ~(1ull << block);
                if (keep) {
                    select(step.taken, covered.alpha.v, zero).store(memory.alphas.get() + used++ * P::lanes);
                    visited |= 1ull << block;
                }
            }
            if (keep) memory.visited[i - tile.begin] = visited;
        }
        const int64_t visible_end = i;
        push.finish(scene.background);

        CotangentPass<T> pull;
        Plane<T> weight;
        read_plane(tile, weights + tile.image * scene.height * scene.width, scene.width, T(0), weight);
        for (int c = 0; c < 3; ++c)
            for (int block = 0; block < Blocks<T>::count; ++block)
                pull.cotangent[c].block[block] = push.color[c].block[block] * weight.block[block];
        start_rays(tile, pull.transmittance);
        pull.start(lin.tiled_image.get() + index * 3 * TILE * TILE);

        const T* alphas = memory.alphas.get();
        const int64_t kept_end = full_at < visible_end ? full_at : visible_end;
        for (i = tile.begin; i < kept_end; ++i) {
            const Splat<T>& s = tile.splat(i);
            SplatSums<T> sums;
            for (uint64_t blocks = memory.visited[i - tile.begin]; blocks; alphas += P::lanes) {
                const int block = take_lowest(blocks);
                const P alpha = P::load(alphas);
                P& ray = pull.transmittance.block[block];
                const P step = ray * alpha;
                ray = ray - step;
                const auto pulls = both(alpha > zero, alpha < P(T(ALPHA_CAP)));
                pull.add(block, s, step, alpha, pulls, tile.block_x(block) - s.x, tile.block_y(block) - s.y, sums);
            }
            sums.write(slots + int64_t(tile.list[i].slot) * SPLAT_NUMBERS);
        }
        if (i < visible_end) pull.transmittance = rays_later;
        live = live_later;
        for (; i < visible_end; ++i) {
            const Splat<T>& s = tile.splat(i);
            const Footprint<P> f = footprint(s);
            SplatSums<T> sums;
            for (uint64_t blocks = tile.blocks_under(s) & live; blocks;) {
                const int block = take_lowest(blocks);
                const Coverage<P> covered = cover(f, tile.block_x(block), tile.block_y(block));
                P& ray = pull.transmittance.block[block];
                const Blend<P> step = blend(ray, covered.alpha, covered.visible);
                pull.add(block, s, step.weight, covered.alpha, both(step.taken, covered.free), covered.dx, covered.dy, sums);
                if (ended(ray)) live &= ~(1ull << block);
            }
            sums.write(slots + int64_t(tile.list[i].slot) * SPLAT_NUMBERS);
        }
        for (; i < tile.end; ++i) clear_slot(slots + int64_t(tile.list[i].slot) * SPLAT_NUMBERS);
    });
}

template void rasterize_product(const Linearization<float>&, const SplatTangent<float>*, const float*, float*, int);
template void rasterize_product(const Linearization<double>&, const SplatTangent<double>*, const double*, double*, int);

}  // namespace diff3r
