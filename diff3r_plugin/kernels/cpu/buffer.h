// Uninitialized memory that is freed with its owner. Pages that nobody writes cost nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace diff3r {

// buffer.cpp; throw std::bad_alloc. Large blocks are kept for the next call for a while, because fresh ones have to be
// cleared by the operating system first, which costs more than some of the kernels.
void* acquire(size_t bytes);
void release(void* block, size_t bytes);
// How many bytes of released blocks may wait to be used again; more are freed at once.
void keep_at_most(size_t bytes);
// Frees the blocks that wait; returns how many bytes they had.
size_t free_waiting();

template <class T> class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(int64_t count) { allocate(count); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { release(data_, size_t(bytes())); }
    void allocate(int64_t count) {
        release(data_, size_t(bytes()));
        data_ = nullptr;
        count_ = 0;
        data_ = static_cast<T*>(acquire(size_t(count) * sizeof(T)));
        count_ = count;
    }
    T* get() { return data_; }
    const T* get() const { return data_; }
    T& operator[](int64_t i) { return data_[i]; }
    const T& operator[](int64_t i) const { return data_[i]; }
    int64_t count() const { return count_; }
    int64_t bytes() const { return count_ * int64_t(sizeof(T)); }

  private:
    T* data_ = nullptr;
    int64_t count_ = 0;
};

}  // namespace diff3r
