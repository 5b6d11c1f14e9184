// One tile while it is rendered. Its 16 x 16 pixels are blocks of one register each, four pixels wide; a splat visits
// only the blocks under its box, and blocks where every ray has ended are left out.
#pragma once

#include <cstdint>

#include "state.h"

namespace diff3r {

template <class T> struct Blocks {
    static constexpr int lanes = Pack<T>::lanes;
    static constexpr int width = 4;
    static constexpr int height = lanes / width;
    static constexpr int columns = TILE / width;
    static constexpr int rows = TILE / height;
    static constexpr int count = columns * rows;  // at most 64: a set of blocks is one integer
};

template <class T> struct Tile {
    int64_t image;
    int32_t x, y;            // first pixel
    int32_t width, height;   // of the part inside the image
    int64_t begin, end;      // its part of the tile lists
    const Splat<T>* splats;  // of the image
    const TileEntry* list;   // of all tiles
    Pack<T> column_x[Blocks<T>::columns], row_y[Blocks<T>::rows];  // center of each lane's pixel, by column and row of blocks, px

    Tile(const Linearization<T>& lin, int64_t index) {
        const Scene<T>& scene = lin.scene;
        image = index / scene.tiles();
        const int64_t tile = index % scene.tiles();
        x = int32_t(tile % scene.tiles_x()) * TILE;
        y = int32_t(tile / scene.tiles_x()) * TILE;
        width = int32_t(scene.width - x < TILE ? scene.width - x : TILE);
        height = int32_t(scene.height - y < TILE ? scene.height - y : TILE);
        begin = lin.tile_starts[index];
        end = lin.tile_starts[index + 1];
        splats = lin.splats.get() + image * scene.gaussians;
        list = lin.tile_lists.get();
        using B = Blocks<T>;
        for (int l = 0; l < B::lanes; ++l) {
            for (int i = 0; i < B::columns; ++i) column_x[i].v[l] = T(x + i * B::width + l % B::width) + T(0.5);
            for (int i = 0; i < B::rows; ++i) row_y[i].v[l] = T(y + i * B::height + l / B::width) + T(0.5);
        }
    }

    DIFF3R_INLINE int64_t soon(int64_t i) const { return i + 8 < end ? i + 8 : end - 1; }

    // The splat at position i of the lists; fetches one that will be wanted soon.
    DIFF3R_INLINE const Splat<T>& splat(int64_t i) const {
        __builtin_prefetch(splats + list[soon(i)].splat);
        return splats[list[i].splat];
    }

    // The set of blocks under a splat's box.
    DIFF3R_INLINE uint64_t blocks_under(const Splat<T>& s) const {
        using B = Blocks<T>;
        const int32_t left = s.x0 > x ? s.x0 - x : 0, right = s.x1 - x < TILE - 1 ? s.x1 - x : TILE - 1;
        const int32_t top = s.y0 > y ? s.y0 - y : 0, bottom = s.y1 - y < TILE - 1 ? s.y1 - y : TILE - 1;
        const uint64_t columns = (2u << (right / B::width)) - (1u << (left / B::width));
        const int low = top / B::height, high = bottom / B::height;
        const uint64_t every_row = B::count == 64 ? 0x1111111111111111ull : 0x1111111111111111ull & ((1ull << (B::count % 64)) - 1);
        const uint64_t rows = (every_row >> (4 * (B::rows - 1 - high))) >> (4 * low) << (4 * low);
        return columns * rows;
    }

    DIFF3R_INLINE const Pack<T>& block_x(int block) const { return column_x[block % Blocks<T>::columns]; }
    DIFF3R_INLINE const Pack<T>& block_y(int block) const { return row_y[block / Blocks<T>::columns]; }
};

template <class T> DIFF3R_INLINE Footprint<Pack<T>> footprint(const Splat<T>& s) {
    return {Pack<T>(s.x), Pack<T>(s.y), Pack<T>(s.a), Pack<T>(s.b), Pack<T>(s.c), Pack<T>(s.opacity)};
}

DIFF3R_INLINE int take_lowest(uint64_t& set) {
    const int index = __builtin_ctzll(set);
    set &= set - 1;
    return index;
}

// A number per pixel of the tile, by block.
template <class T> struct Plane {
    Pack<T> block[Blocks<T>::count];

    void fill(T value) {
        for (auto& b : block) b = Pack<T>(value);
    }
    T* pixels() { return reinterpret_cast<T*>(block); }
    const T* pixels() const { return reinterpret_cast<const T*>(block); }
};

// Position of a pixel in a plane.
template <class T> DIFF3R_INLINE int pixel_index(int column, int row) {
    using B = Blocks<T>;
    return ((row / B::height) * B::columns + column / B::width) * B::lanes + (row % B::height) * B::width + column % B::width;
}

// Row-major image channel to plane; pixels outside the image get `outside`.
template <class T> void read_plane(const Tile<T>& tile, const T* channel, int64_t stride, T outside, Plane<T>& plane) {
    if (tile.width < TILE || tile.height < TILE) plane.fill(outside);
    T* pixels = plane.pixels();
    for (int row = 0; row < tile.height; ++row) {
        const T* line = channel + (tile.y + row) * stride + tile.x;
        for (int column = 0; column < tile.width; ++column) pixels[pixel_index<T>(column, row)] = line[column];
    }
}
template <class T> void write_plane(const Tile<T>& tile, const Plane<T>& plane, T* channel, int64_t stride) {
    const T* pixels = plane.pixels();
    for (int row = 0; row < tile.height; ++row) {
        T* line = channel + (tile.y + row) * stride + tile.x;
        for (int column = 0; column < tile.width; ++column) line[column] = pixels[pixel_index<T>(column, row)];
    }
}

// Full transmittance inside the image; rays outside of it have ended before they start.
template <class T> uint64_t start_rays(const Tile<T>& tile, Plane<T>& transmittance) {
    uint64_t live = 0;
    T* pixels = transmittance.pixels();
    transmittance.fill(T(-1));
    for (int row = 0; row < tile.height; ++row)
        for (int column = 0; column < tile.width; ++column) {
            const int at = pixel_index<T>(column, row);
            pixels[at] = T(1);
            live |= 1ull << (at / Blocks<T>::lanes);
        }
    return live;
}

template <class T> DIFF3R_INLINE bool ended(const Pack<T>& transmittance) { return !any(transmittance > Pack<T>(T(0))); }

template <class T> DIFF3R_INLINE Pack<T> magnitude(const Pack<T>& x) { return select(x < Pack<T>(T(0)), -x, x); }

}  // namespace diff3r
