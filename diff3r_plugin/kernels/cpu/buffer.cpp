// Memory of the kernels: aligned blocks, the large ones recycled.
#include "buffer.h"

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
constexpr size_t MOST_KEPT = size_t(2048) << 20;    // bytes of all blocks that wait
#if defined(__SANITIZE_ADDRESS__)
constexpr bool RECYCLE = false;  // a recycled block hides reads past its end
#else
constexpr bool RECYCLE = true;
#endif

struct Block {
    void* data;
    size_t bytes;
};

struct Shelf {
    std::mutex mutex;
    std::vector<Block> blocks;  // oldest first
    size_t bytes = 0;
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
    if (RECYCLE && is_large(bytes)) {
        Shelf& s = shelf();
        const std::lock_guard<std::mutex> lock(s.mutex);
        for (size_t i = s.blocks.size(); i-- > 0;) {
            if (s.blocks[i].bytes != bytes) continue;
            void* data = s.blocks[i].data;
            s.blocks.erase(s.blocks.begin() + std::ptrdiff_t(i));
            s.bytes -= bytes;
            return data;
        }
    }
    void* data = nullptr;
    if (posix_memalign(&data, is_large(bytes) ? LARGE_PAGE : 64, bytes)) throw std::bad_alloc();
    prefer_large_pages(data, bytes);
    return data;
}

void release(void* block, size_t bytes) {
    if (!block) return;
    bytes = rounded(bytes);
    if (!RECYCLE || !is_large(bytes) || bytes > LARGEST_KEPT) {
        std::free(block);
        return;
    }
    Shelf& s = shelf();
    const std::lock_guard<std::mutex> lock(s.mutex);
    s.blocks.push_back({block, bytes});
    s.bytes += bytes;
    while (s.bytes > MOST_KEPT) {
        s.bytes -= s.blocks.front().bytes;
        std::free(s.blocks.front().data);
        s.blocks.erase(s.blocks.begin());
    }
}

}  // namespace diff3r
