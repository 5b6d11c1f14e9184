// How a tile goes through its splats: one block of threads a tile, one thread a pixel, splats in batches through shared
// memory from front to back. A warp has 8 x 4 pixels and looks at the splats that reach one of them, and at no others: most
// splats are smaller than a tile.
#pragma once

#include "device.h"

namespace diff3r {

constexpr int WARP_WIDTH = 8, WARP_HEIGHT = 4;  // px
constexpr int WARPS_ACROSS = TILE / WARP_WIDTH, WARPS_DOWN = TILE / WARP_HEIGHT;
static_assert(WARP_WIDTH * WARP_HEIGHT == WARP && WARPS_ACROSS * WARPS_DOWN <= 8, "a bit of a byte for each warp");

// The rasterizer's conic may be rounded otherwise than the reach; by how much a needle's outline moves for that.
constexpr double REACH_SCALE = 1.001, REACH_MARGIN = 0.02;  // px

// The pixel of this thread.
template <class T> struct Pixel {
    int64_t tile, image;
    int64_t index;  // in [I, H, W]
    T left, top;    // of the tile, px
    T x, y;         // center, px
    bool inside;

    __device__ __forceinline__ explicit Pixel(const DeviceScene<T>& scene) {
        tile = int64_t(blockIdx.x);
        image = tile / scene.tiles();
        const int64_t within = tile % scene.tiles();
        const int warp = int(threadIdx.x) / WARP, lane = int(threadIdx.x) % WARP;
        const int64_t first_column = within % scene.tiles_x() * TILE, first_row = within / scene.tiles_x() * TILE;
        const int64_t column = first_column + warp % WARPS_ACROSS * WARP_WIDTH + lane % WARP_WIDTH;
        const int64_t row = first_row + warp / WARPS_ACROSS * WARP_HEIGHT + lane / WARP_WIDTH;
        inside = column < scene.width && row < scene.height;
        index = inside ? (image * scene.height + row) * scene.width + column : 0;
        left = T(first_column), top = T(first_row);
        x = T(column) + T(0.5);
        y = T(row) + T(0.5);
    }
    // A ray outside of the image has ended before it starts.
    __device__ __forceinline__ T ray() const { return inside ? T(1) : T(-1); }
};

// A batch of splats in shared memory.
template <class T> struct SharedSplats {
    int id[BLOCK];
    unsigned char warps[BLOCK];  // bit i: the splat may show at a pixel of warp i
    T x[BLOCK], y[BLOCK], a[BLOCK], b[BLOCK], c[BLOCK], opacity[BLOCK], color[3][BLOCK];

    __device__ __forceinline__ void load(const DeviceScene<T>& scene, const Pixel<T>& pixel, int slot, int splat) {
        const int64_t at = splat;
        id[slot] = splat;
        x[slot] = scene.means2d[2 * at], y[slot] = scene.means2d[2 * at + 1];
        a[slot] = scene.conics[3 * at], b[slot] = scene.conics[3 * at + 1], c[slot] = scene.conics[3 * at + 2];
        opacity[slot] = scene.splat_opacities[at];
        for (int k = 0; k < 3; ++k) color[k][slot] = scene.colors[3 * at + k];
        const auto across = cells<WARPS_ACROSS, WARP_WIDTH>(x[slot] - pixel.left, scene.reaches[2 * at]);
        const auto down = cells<WARPS_DOWN, WARP_HEIGHT>(y[slot] - pixel.top, scene.reaches[2 * at + 1]);
        unsigned bits = 0;
        for (int row = 0; row < WARPS_DOWN; ++row)
            if (down >> row & 1) bits |= across << (WARPS_ACROSS * row);
        warps[slot] = (unsigned char)(bits);
    }
    __device__ __forceinline__ Footprint<T> footprint(int slot) const {
        return {x[slot], y[slot], a[slot], b[slot], c[slot], opacity[slot]};
    }

private:
    // Bit i: some pixel center of the i-th cell of so many pixels lies within `reach` of the center.
    template <int COUNT, int SIZE> static __device__ __forceinline__ unsigned cells(T center, T reach) {
        const T wide = T(REACH_SCALE) * reach + T(REACH_MARGIN);
        unsigned bits = 0;
        for (int i = 0; i < COUNT; ++i)
            if (center + wide >= T(SIZE * i) + T(0.5) && center - wide <= T(SIZE * (i + 1)) - T(0.5)) bits |= 1u << i;
        return bits;
    }
};

// Shows the splats of a tile to `visitor`, front to back: to each warp those that may show there. The visitor has
//     bool live() const             this thread's ray goes on
//     void load(int slot, int id)   what it needs in shared memory besides the splat itself
//     void visit(const SharedSplats<T>&, int slot)   one splat; all lanes of a warp are called together
// All threads of the block must call this together.
template <class T, class Visitor>
__device__ __forceinline__ void walk_tile(const DeviceScene<T>& scene, const Pixel<T>& pixel, SharedSplats<T>& splats, Visitor& visitor) {
    const int64_t tile = pixel.tile, begin = scene.tile_offsets[tile];
    const int64_t end = tile + 1 < scene.images() * scene.tiles() ? int64_t(scene.tile_offsets[tile + 1]) : scene.intersections;
    const int slot = int(threadIdx.x), warp = slot / WARP, lane = slot % WARP;
    for (int64_t start = begin; start < end; start += BLOCK) {
        // Also keeps a batch in place until everybody has finished with it, that of an earlier walk as well.
        if (__syncthreads_count(visitor.live()) == 0) break;
        splats.warps[slot] = 0;
        if (start + slot < end) {
            const int id = scene.flatten_ids[start + slot];
            splats.load(scene, pixel, slot, id);
            visitor.load(slot, id);
        }
        __syncthreads();
        const int count = int(end - start < BLOCK ? end - start : BLOCK);
        for (int first = 0; first < count && __any_sync(EVERY_LANE, visitor.live()); first += WARP) {
            unsigned bits = __ballot_sync(EVERY_LANE, (splats.warps[first + lane] >> warp & 1) != 0);
            for (; bits; bits &= bits - 1) visitor.visit(splats, first + __ffs(int(bits)) - 1);
        }
    }
}

}  // namespace diff3r
