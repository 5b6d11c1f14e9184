// A parallel loop over independent tasks. Results never depend on which thread runs a task, so everything built on
// it is the same for any number of threads.
#pragma once

#include <atomic>
#include <cstdint>
#ifdef _OPENMP
#include <omp.h>
#else
#include <thread>
#include <vector>
#endif

namespace diff3r {

// No more threads than have `least` pieces of work each: waking one up costs some microseconds, and on a busy machine
// a whole time slice.
inline int threads_for(int64_t work, int64_t least, int threads) {
    const int64_t most = work / least;
    return most < 1 ? 1 : most < threads ? int(most) : threads;
}

// Calls body(task, thread) for every task in [0, tasks); body must not throw.
template <class Body> void parallel_for(int64_t tasks, int threads, const Body& body) {
    if (threads > tasks) threads = int(tasks);
    if (threads <= 1) {
        for (int64_t task = 0; task < tasks; ++task) body(task, 0);
        return;
    }
    std::atomic<int64_t> next{0};
    const auto work = [&](int thread) {
        for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) body(task, thread);
    };
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
    work(omp_get_thread_num());
#else
    std::vector<std::thread> others;
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(work, thread);
    work(0);
    for (auto& other : others) other.join();
#endif
}

}  // namespace diff3r
