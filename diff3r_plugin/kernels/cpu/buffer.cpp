// Memory of the kernels: aligned blocks, the large ones recycled.
#include "buffer.h"

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#endif

namespace diff3r {
namespace {

constexpr size_t LARGE_PAGE = size_t(2) << 20;
constexpr size_t LARGEST_KEPT = size_t(256) << 20;  // bytes of one block
constexpr uint64_t PATIENCE = 1024;                 // blocks that come after one that waits, until it is given up
#if defined(__SANITIZE_ADDRESS__)
constexpr bool RECYCLE = false;  // a recycled block hides reads past its end
#else
constexpr bool RECYCLE = true;
#endif

struct Block {
    void* data;
    size_t bytes;
    uint64_t number;  // of all blocks that ever came to wait
};

// Large blocks that wait to be used again. One that many others have come after is of a size that is over: scenes that grow would
// leave one of each behind.
class Shelf {
  public:
    // A waiting block of this size, or null.
    void* take(size_t bytes) {
        const std::lock_guard<std::mutex> lock(mutex_);
        for (size_t i = blocks_.size(); i-- > 0;) {
            if (blocks_[i].bytes != bytes) continue;
            void* data = blocks_[i].data;
            blocks_.erase(blocks_.begin() + std::ptrdiff_t(i));
            waiting_ -= bytes;
            return data;
        }
        return nullptr;
    }
    void put(void* data, size_t bytes) {
        const std::lock_guard<std::mutex> lock(mutex_);
        blocks_.push_back({data, bytes, ++count_});
        waiting_ += bytes;
        drop(most_kept_);
    }
    size_t clear() {
        const std::lock_guard<std::mutex> lock(mutex_);
        const size_t waited = waiting_;
        drop(0);
        return waited;
    }
    void limit(size_t bytes) {
        const std::lock_guard<std::mutex> lock(mutex_);
        most_kept_ = bytes;
        drop(most_kept_);
    }

  private:
    void drop(size_t allowed) {
        size_t gone = 0;
        for (; waiting_ > allowed || (gone < blocks_.size() && count_ - blocks_[gone].number > PATIENCE); ++gone) {
            waiting_ -= blocks_[gone].bytes;
            std::free(blocks_[gone].data);
        }
        blocks_.erase(blocks_.begin(), blocks_.begin() + std::ptrdiff_t(gone));
    }
    std::mutex mutex_;
    std::vector<Block> blocks_;  // oldest first
    size_t waiting_ = 0;         // bytes
    size_t most_kept_ = 0;       // bytes; nothing waits before keep_at_most
    uint64_t count_ = 0;
};

Shelf& shelf() {
    static Shelf* const instance = new Shelf;  // never destroyed: threads may outlive static objects
    return *instance;
}

bool is_large(size_t bytes) { return bytes >= LARGE_PAGE; }
// Large blocks come in whole pages, so that similar sizes can take each other's place.
size_t rounded(size_t bytes) { return is_large(bytes) ? (bytes + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE : (bytes ? bytes : 64); }

// Asks for large pages before an array is written for the first time.
void prefer_large_pages(void* begin, size_t bytes) {
#ifdef MADV_HUGEPAGE
    if (!is_large(bytes)) return;
    const uintptr_t first = (uintptr_t(begin) + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
    const uintptr_t last = (uintptr_t(begin) + bytes) / LARGE_PAGE * LARGE_PAGE;
    if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
    (void)begin, (void)bytes;
#endif
}

}  // namespace

void* acquire(size_t bytes) {
    bytes = rounded(bytes);
    const bool recycled = RECYCLE && is_large(bytes);
    if (recycled)
        if (void* data = shelf().take(bytes)) return data;
    const size_t alignment = is_large(bytes) ? LARGE_PAGE : 64;
    void* data = nullptr;
    bool failed = posix_memalign(&data, alignment, bytes);
    if (failed && recycled) {
        shelf().clear();
        failed = posix_memalign(&data, alignment, bytes);
    }
    if (failed) throw std::bad_alloc();
    prefer_large_pages(data, bytes);
    return data;
}

void release(void* block, size_t bytes) {
    if (!block) return;
    bytes = rounded(bytes);
    if (RECYCLE && is_large(bytes) && bytes <= LARGEST_KEPT)
        shelf().put(block, bytes);
    else
        std::free(block);
}

void keep_at_most(size_t bytes) { shelf().limit(bytes); }
size_t free_waiting() { return shelf().clear(); }

}  // namespace diff3r
