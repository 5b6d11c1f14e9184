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

// A splat as a pixel sees it.
template <class T> struct SeenSplat {
    Footprint<T> footprint;
    T color[3];
    int id;
};

template <class T> struct alignas(2 * sizeof(T)) BlueAndId {
    T blue;
    int id;
};

// A batch of splats in shared memory, in as few loads as can be: all lanes of a warp look at the same splat.
template <class T> struct SharedSplats {
    Four<T> place[BLOCK];  // x, y, conic a, b
    Four<T> look[BLOCK];   // conic c, opacity, red, green
    BlueAndId<T> last[BLOCK];
    unsigned char warps[BLOCK];  // bit i: the splat may show at a pixel of warp i

    __device__ __forceinline__ void load(const DeviceScene<T>& scene, const Pixel<T>& pixel, int slot, int splat) {
        const int64_t at = splat;
        const T x = scene.means2d[2 * at], y = scene.means2d[2 * at + 1];
        const T *conic = scene.conics + 3 * at, *color = scene.colors + 3 * at;
        place[slot] = {x, y, conic[0], conic[1]};
        look[slot] = {conic[2], scene.splat_opacities[at], color[0], color[1]};
        last[slot] = {color[2], splat};
        const auto across = cells<WARPS_ACROSS, WARP_WIDTH>(x - pixel.left, scene.reaches[2 * at]);
        const auto down = cells<WARPS_DOWN, WARP_HEIGHT>(y - pixel.top, scene.reaches[2 * at + 1]);
        unsigned bits = 0;
        for (int row = 0; row < WARPS_DOWN; ++row)
            if (down >> row & 1) bits |= across << (WARPS_ACROSS * row);
        warps[slot] = (unsigned char)(bits);
    }
    __device__ __forceinline__ SeenSplat<T> splat(int slot) const {
        const Four<T> p = place[slot], l = look[slot];
        const BlueAndId<T> q = last[slot];
        return {{p.a, p.b, p.c, p.d, l.a, l.b}, {l.c, l.d, q.blue}, q.id};
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
