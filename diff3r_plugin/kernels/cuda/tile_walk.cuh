// How a tile goes through its splats: one block of threads a tile, one thread a pixel, splats in batches through shared
// memory from front to back.
#pragma once

#include "device.h"

namespace diff3r {

// The pixel of this thread.
template <class T> struct Pixel {
    int64_t tile, image;
    int64_t index;  // in [I, H, W]
    T x, y;         // center, px
    bool inside;

    __device__ __forceinline__ explicit Pixel(const DeviceScene<T>& scene) {
        tile = int64_t(blockIdx.x);
        image = tile / scene.tiles();
        const int64_t within = tile % scene.tiles();
        const int64_t column = within % scene.tiles_x() * TILE + int64_t(threadIdx.x) % TILE;
        const int64_t row = within / scene.tiles_x() * TILE + int64_t(threadIdx.x) / TILE;
        inside = column < scene.width && row < scene.height;
        index = inside ? (image * scene.height + row) * scene.width + column : 0;
        x = T(column) + T(0.5);
        y = T(row) + T(0.5);
    }
    // A ray outside of the image has ended before it starts.
    __device__ __forceinline__ T ray() const { return inside ? T(1) : T(-1); }
};

// A batch of splats in shared memory.
template <class T> struct SharedSplats {
    int id[BLOCK];
    T x[BLOCK], y[BLOCK], a[BLOCK], b[BLOCK], c[BLOCK], opacity[BLOCK], color[3][BLOCK];

    __device__ __forceinline__ void load(const DeviceScene<T>& scene, int slot, int splat) {
        const int64_t at = splat;
        id[slot] = splat;
        x[slot] = scene.means2d[2 * at], y[slot] = scene.means2d[2 * at + 1];
        a[slot] = scene.conics[3 * at], b[slot] = scene.conics[3 * at + 1], c[slot] = scene.conics[3 * at + 2];
        opacity[slot] = scene.splat_opacities[at];
        for (int k = 0; k < 3; ++k) color[k][slot] = scene.colors[3 * at + k];
    }
    __device__ __forceinline__ Footprint<T> footprint(int slot) const {
        return {x[slot], y[slot], a[slot], b[slot], c[slot], opacity[slot]};
    }
};

// Shows every splat of the tile to `visitor`, front to back. The visitor has
//     bool live() const             this thread's ray goes on
//     void load(int slot, int id)   what it needs in shared memory besides the splat itself
//     bool visit(const SharedSplats<T>&, int slot)   one splat; false: this warp wants no more of this batch
// All threads of the block must call this together.
template <class T, class Visitor>
__device__ __forceinline__ void walk_tile(const DeviceScene<T>& scene, int64_t tile, SharedSplats<T>& splats, Visitor& visitor) {
    const int64_t begin = scene.tile_offsets[tile];
    const int64_t end = tile + 1 < scene.images() * scene.tiles() ? int64_t(scene.tile_offsets[tile + 1]) : scene.intersections;
    for (int64_t start = begin; start < end; start += BLOCK) {
        // Also keeps the batch in place until everybody has finished with it.
        if (__syncthreads_count(visitor.live()) == 0) break;
        const int64_t mine = start + int64_t(threadIdx.x);
        if (mine < end) {
            const int id = scene.flatten_ids[mine];
            splats.load(scene, int(threadIdx.x), id);
            visitor.load(int(threadIdx.x), id);
        }
        __syncthreads();
        const int count = int(end - start < BLOCK ? end - start : BLOCK);
        for (int slot = 0; slot < count; ++slot)
            if (!visitor.visit(splats, slot)) break;
    }
}

}  // namespace diff3r
