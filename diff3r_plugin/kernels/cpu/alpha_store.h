// Where a linearization keeps the alphas of its splats at its pixels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <mutex>
#include <new>

#include "buffer.h"

namespace diff3r {

// A register of alphas for each splat and block of pixels that takes it, in the order of the tile lists; zero at pixels
// that do not. Room comes in chunks, so that several threads can fill it and the next linearization can have it again; a
// tile is never split. A tile that found no room is rendered again by whoever asks for its alphas.
template <class T> class AlphaStore {
  public:
    static constexpr int64_t MOST = (int64_t(256) << 20) / int64_t(sizeof(T));         // numbers in all
    static constexpr int64_t MOST_IN_CHUNK = (int64_t(4) << 20) / int64_t(sizeof(T));  // numbers

    // bound: numbers that all tiles together cannot exceed.
    void prepare(int64_t tiles, int64_t intersections, int64_t bound) {
        tiles_.allocate(tiles);
        blocks_.allocate(intersections);
        chunk_ = std::min(MOST_IN_CHUNK, bound);
    }
    int64_t chunk_numbers() const { return chunk_; }
    // A new chunk, or null if there may be no more.
    T* new_chunk() {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (int64_t(chunks_.size() + 1) * chunk_ > MOST) return nullptr;
        try {
            return chunks_.emplace_back(chunk_).get();
        } catch (const std::bad_alloc&) {
            return nullptr;
        }
    }
    // The alphas of a tile; null where there was no room.
    const T* tile(int64_t index) const { return tiles_[index]; }
    void set_tile(int64_t index, const T* alphas) { tiles_[index] = alphas; }
    // The set of blocks that take the splat at each position of the tile lists.
    const uint64_t* blocks() const { return blocks_.get(); }
    uint64_t* blocks() { return blocks_.get(); }
    int64_t registers() const {
        int64_t total = 0;
        for (int64_t i = 0; i < blocks_.count(); ++i) total += __builtin_popcountll(blocks_[i]);
        return total;
    }
    int64_t bytes() const { return blocks_.bytes() + tiles_.bytes() + int64_t(chunks_.size()) * chunk_ * int64_t(sizeof(T)); }

  private:
    Buffer<const T*> tiles_;   // [images * tiles]
    Buffer<uint64_t> blocks_;  // [intersections]
    std::mutex mutex_;
    std::deque<Buffer<T>> chunks_;
    int64_t chunk_ = 0;
};

}  // namespace diff3r
