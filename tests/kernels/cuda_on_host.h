// The part of CUDA that our kernels use, on a CPU, so that tests can run the very source that GPUs run: every thread of
// a block is a fiber, blocks run one after the other, and barriers, votes and shuffles switch between fibers. A barrier
// that not every thread reaches, which hangs a GPU, aborts with a message.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static

namespace cuda_on_host {

constexpr int WARP_LANES = 32;
constexpr size_t STACK = 256 * 1024;

struct Barrier {
    int arrived = 0;
    long generation = 0;
};

// Where a fiber or the scheduler goes on. (swapcontext would ask the kernel for the signal mask at every switch.)
using Place = void* [5];

struct Fiber {
    ucontext_t context;  // of its start
    Place place;
    std::unique_ptr<char[]> stack;
    bool started = false, finished = false;
};

struct Block {
    std::vector<Fiber> fibers;
    Place scheduler;
    int current = 0;
    long progress = 0;  // counts barriers that opened and fibers that ended
    Barrier all;
    std::vector<Barrier> warps;
    std::vector<uint64_t> exchange;  // a word a thread
    std::function<void()> body;
};

inline Block*& block() {
    static Block* running = nullptr;
    return running;
}

struct Index {
    int (*get)();
    operator int() const { return get(); }
};
inline int& block_number() {
    static int number = 0;
    return number;
}
inline int& block_threads() {
    static int threads = 0;
    return threads;
}

inline int64_t& lane_visits() {
    static int64_t count = 0;
    return count;
}

__attribute__((noinline)) inline void jump(Place& place) { __builtin_longjmp(place, 1); }
__attribute__((noinline)) inline void yield() {
    Block& b = *block();
    if (__builtin_setjmp(b.fibers[size_t(b.current)].place) == 0) jump(b.scheduler);
}
// Runs a fiber until it yields.
__attribute__((noinline)) inline void resume(Block& b, Fiber& fiber) {
    if (__builtin_setjmp(b.scheduler)) return;
    if (fiber.started) jump(fiber.place);
    fiber.started = true;
    setcontext(&fiber.context);
}

inline void wait(Barrier& barrier, int members) {
    const long generation = barrier.generation;
    if (++barrier.arrived == members) {
        barrier.arrived = 0;
        ++barrier.generation;
        ++block()->progress;
        return;
    }
    while (barrier.generation == generation) yield();
}
inline void wait_for_block() { wait(block()->all, block_threads()); }
inline void wait_for_warp() { wait(block()->warps[size_t(block()->current / WARP_LANES)], WARP_LANES); }

inline void enter() {
    Block& b = *block();
    b.body();
    b.fibers[size_t(b.current)].finished = true;
    ++b.progress;
    yield();
}

inline int64_t& launches() {
    static int64_t count = 0;
    return count;
}

inline void run(int blocks, int threads, const std::function<void()>& body) {
    ++launches();
    if (threads % WARP_LANES) {
        std::fprintf(stderr, "cuda_on_host: %d threads are no whole warps\n", threads);
        std::abort();
    }
    Block b;
    b.fibers.resize(size_t(threads));
    b.exchange.resize(size_t(threads));
    b.body = body;
    for (Fiber& fiber : b.fibers) fiber.stack.reset(new char[STACK]);
    block() = &b;
    block_threads() = threads;
    for (int number = 0; number < blocks; ++number) {
        block_number() = number;
        b.all = Barrier();
        b.warps.assign(size_t(threads / WARP_LANES), Barrier());
        for (Fiber& fiber : b.fibers) {
            fiber.started = fiber.finished = false;
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.get();
            fiber.context.uc_stack.ss_size = STACK;
            fiber.context.uc_link = nullptr;
            makecontext(&fiber.context, enter, 0);
        }
        for (int left = threads; left > 0;) {
            const long before = b.progress;
            left = 0;
            for (b.current = 0; b.current < threads; ++b.current) {
                Fiber& fiber = b.fibers[size_t(b.current)];
                if (fiber.finished) continue;
                resume(b, fiber);
                left += !fiber.finished;
            }
            if (left && b.progress == before) {
                std::fprintf(stderr, "cuda_on_host: %d threads of block %d wait at a barrier for threads that never come\n", left, number);
                std::abort();
            }
        }
    }
    block() = nullptr;
}

template <class T> uint64_t to_word(T x) {
    static_assert(sizeof(T) <= 8, "a word");
    uint64_t word = 0;
    __builtin_memcpy(&word, &x, sizeof(T));
    return word;
}

// What the lane `partner` of this warp passed to the same call.
template <class T> T exchanged(T mine, int partner) {
    Block& b = *block();
    const int first = b.current / WARP_LANES * WARP_LANES;
    b.exchange[size_t(b.current)] = to_word(mine);
    wait_for_warp();
    T theirs;
    __builtin_memcpy(&theirs, &b.exchange[size_t(first + partner)], sizeof(T));
    wait_for_warp();
    return theirs;
}

// How many of `count` threads from `first` on passed true.
template <class Wait> int votes(bool mine, int first, int count, Wait wait_for_all) {
    Block& b = *block();
    b.exchange[size_t(b.current)] = mine;
    wait_for_all();
    int total = 0;
    for (int i = first; i < first + count; ++i) total += int(b.exchange[size_t(i)]);
    wait_for_all();
    return total;
}

// Bit i: lane i of this warp passed true.
inline unsigned ballot(bool mine) {
    Block& b = *block();
    const size_t first = size_t(b.current / WARP_LANES * WARP_LANES);
    b.exchange[size_t(b.current)] = mine;
    wait_for_warp();
    unsigned bits = 0;
    for (unsigned i = 0; i < unsigned(WARP_LANES); ++i) bits |= unsigned(b.exchange[first + i]) << i;
    wait_for_warp();
    return bits;
}

struct Three {
    Index x;
};

}  // namespace cuda_on_host

static const cuda_on_host::Three threadIdx = {{[] { return cuda_on_host::block()->current; }}};
static const cuda_on_host::Three blockIdx = {{[] { return cuda_on_host::block_number(); }}};
static const cuda_on_host::Three blockDim = {{[] { return cuda_on_host::block_threads(); }}};

inline void __syncthreads() { cuda_on_host::wait_for_block(); }
inline int __syncthreads_count(bool predicate) {
    return cuda_on_host::votes(predicate, 0, cuda_on_host::block_threads(), cuda_on_host::wait_for_block);
}
inline bool __any_sync(unsigned, bool predicate) { return cuda_on_host::ballot(predicate) != 0; }
inline unsigned __ballot_sync(unsigned, bool predicate) { return cuda_on_host::ballot(predicate); }
// Kernels find the splats that a warp looks at by this, so calls of it count lanes times looks.
inline int __ffs(int x) {
    ++cuda_on_host::lane_visits();
    return __builtin_ffs(x);
}
extern "C" __attribute__((used)) inline int64_t cuda_on_host_warp_visits() {
    const int64_t count = cuda_on_host::lane_visits() / cuda_on_host::WARP_LANES;
    cuda_on_host::lane_visits() = 0;
    return count;
}
// Kernels launched so far.
extern "C" __attribute__((used)) inline int64_t cuda_on_host_launches() { return cuda_on_host::launches(); }
template <class T> T __shfl_xor_sync(unsigned, T value, int mask) {
    const int lane = cuda_on_host::block()->current % cuda_on_host::WARP_LANES;
    return cuda_on_host::exchanged(value, lane ^ mask);
}
template <class T> void atomicAdd(T* address, T value) { *address += value; }

// All instances of the kernels, for driver_on_host.cpp to run.
namespace cuda_on_host {

struct Entry {
    std::string name, unit;
    int bits, bases, threads;                        // bits of the number type; bases 0: any
    size_t bytes;                                    // of all parameters
    std::function<void(int, int, const char*)> run;  // blocks, threads, packed arguments
};
inline std::vector<Entry>& entries() {
    static std::vector<Entry> all;
    return all;
}

template <class A> A taken(const char*& place) {
    static_assert(sizeof(A) % 8 == 0, "arguments are words of eight bytes");
    A value;
    __builtin_memcpy(&value, place, sizeof(A));
    place += sizeof(A);
    return value;
}

template <class... A> bool enter_kernel(const char* name, const char* file, int bits, int bases, int threads, void (*kernel)(A...)) {
    std::string unit(file);
    unit = unit.substr(unit.find_last_of('/') + 1);
    unit = unit.substr(0, unit.find('.'));
    const auto run_it = [kernel](int blocks, int count, const char* packed) {
        const std::tuple<A...> arguments{taken<A>(packed)...};  // in braces: from left to right
        run(blocks, count, [&] { std::apply(kernel, arguments); });
    };
    entries().push_back({name, unit, bits, bases, threads, (size_t(0) + ... + sizeof(A)), run_it});
    return true;
}

}  // namespace cuda_on_host

#define DIFF3R_INSTANCE(NAME, THREADS, PARAMETERS, NUMBER, BITS, BASIS_FUNCTIONS, CALL)                                   \
    namespace diff3r::NAME##_at_##BITS##_##BASIS_FUNCTIONS {                                                                   \
    using T = NUMBER;                                                                                                     \
    constexpr int BASES = BASIS_FUNCTIONS;                                                                                \
    static void NAME##_entry PARAMETERS { CALL; }                                                                         \
    static const bool NAME##_entered = cuda_on_host::enter_kernel("diff3r_" #NAME, __FILE__, BITS, BASES, THREADS, NAME##_entry); \
    }
#define DIFF3R_KERNEL(NAME, THREADS, PARAMETERS, ARGUMENTS)                               \
    DIFF3R_INSTANCE(NAME, THREADS, PARAMETERS, float, 32, 0, diff3r::NAME<T> ARGUMENTS)   \
    DIFF3R_INSTANCE(NAME, THREADS, PARAMETERS, double, 64, 0, diff3r::NAME<T> ARGUMENTS)
#define DIFF3R_TWO_INSTANCES(NAME, THREADS, PARAMETERS, BASIS_FUNCTIONS, ARGUMENTS)                                              \
    DIFF3R_INSTANCE(NAME, THREADS, PARAMETERS, float, 32, BASIS_FUNCTIONS, (diff3r::NAME<T, BASES> ARGUMENTS))                   \
    DIFF3R_INSTANCE(NAME, THREADS, PARAMETERS, double, 64, BASIS_FUNCTIONS, (diff3r::NAME<T, BASES> ARGUMENTS))
#define DIFF3R_KERNEL_OF_BASES(NAME, THREADS, PARAMETERS, ARGUMENTS)   \
    DIFF3R_TWO_INSTANCES(NAME, THREADS, PARAMETERS, 1, ARGUMENTS)      \
    DIFF3R_TWO_INSTANCES(NAME, THREADS, PARAMETERS, 4, ARGUMENTS)      \
    DIFF3R_TWO_INSTANCES(NAME, THREADS, PARAMETERS, 9, ARGUMENTS)      \
    DIFF3R_TWO_INSTANCES(NAME, THREADS, PARAMETERS, 16, ARGUMENTS)     \
    DIFF3R_TWO_INSTANCES(NAME, THREADS, PARAMETERS, 25, ARGUMENTS)
