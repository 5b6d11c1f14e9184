// How the functions of the C interface are defined: once for both types, exceptions turned into statuses.
#pragma once

#include <cstdio>
#include <exception>
#include <new>

#include "api.h"

namespace diff3r {

inline thread_local char failure[256] = "";

// No exception leaves the library: what it would do in its caller, which is not C++, is not defined.
template <class Work> int32_t guarded(const Work& work) {
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return DIFF3R_OUT_OF_MEMORY;
    } catch (const std::exception& error) {
        std::snprintf(failure, sizeof failure, "%s", error.what());
        return DIFF3R_FAILED;
    } catch (...) {
        std::snprintf(failure, sizeof failure, "an exception of no known kind");
        return DIFF3R_FAILED;
    }
}

template <class T> const T* in(const void* p) { return static_cast<const T*>(p); }
template <class T> T* out(void* p) { return static_cast<T*>(p); }

}  // namespace diff3r

// What follows PARAMETERS is the body; T is the type in it.
#define DIFF3R_EXPORT(NAME, PARAMETERS, ...)        \
    extern "C" int32_t diff3r_##NAME##_f32 PARAMETERS { \
        using T = float;                            \
        return diff3r::guarded([&]() -> int32_t { __VA_ARGS__ }); \
    }                                               \
    extern "C" int32_t diff3r_##NAME##_f64 PARAMETERS { \
        using T = double;                           \
        return diff3r::guarded([&]() -> int32_t { __VA_ARGS__ }); \
    }
