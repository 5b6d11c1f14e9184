// Loads, stores and atomic additions, and what can be wrong with them: addresses out of bounds or misaligned, memory that was
// never written, and two threads at the same place without a barrier between them.
#include <algorithm>
#include <cstdio>

#include "lanes.h"

namespace ptx {
namespace {

enum Space { GLOBAL, SHARED, LOCAL, PARAMETERS };
enum Kind { READ, WRITE, ATOMIC };
constexpr int16_t SEVERAL = -1;

const char* const SPACES[] = {"global", "shared", "local", "parameter"};
const char* const DONE[] = {"read", "write", "atomic addition"};

struct Access {
    Warp& warp;
    int lane;
    Kind kind;
    uint64_t at;
    size_t bytes;

    int thread() const { return warp.thread(lane); }
    [[noreturn]] void wrong(Space space, const std::string& why) const {
        char where[160];
        std::snprintf(where, sizeof where, "%s memory, %s of %zu bytes at %#llx by thread %d of block %d: ", SPACES[space], DONE[kind], bytes,
                      static_cast<unsigned long long>(at), thread(), warp.launch->block);
        throw Fault{where + why};
    }
    void aligned(Space space, int32_t align) const {
        if (align && at % uint64_t(align)) wrong(space, "misaligned, no multiple of " + std::to_string(align));
    }
};

std::string other(const Launch& launch, uint32_t epoch, int16_t thread) {
    const std::string who = thread == SEVERAL ? "other threads" : "thread " + std::to_string(thread);
    return epoch < launch.first_epoch ? who + " of another block" : who + " of the same block without a barrier between";
}

// Whether an access at `epoch` by `thread` comes from elsewhere than this one, with nothing that orders them.
bool unordered(const Launch& launch, uint32_t epoch, int16_t by, int thread) {
    if (epoch == 0) return false;
    if (epoch < launch.first_epoch) return true;
    return epoch == launch.epoch && by != thread;
}

void check_race(const Access& a, Space space, Shadow& s) {
    const Launch& launch = *a.warp.launch;
    const bool both_atomic = a.kind == ATOMIC && s.atomic;
    if (!both_atomic && unordered(launch, s.written, s.writer, a.thread()))
        a.wrong(space, "a race with a write by " + other(launch, s.written, s.writer));
    if (a.kind != READ && s.read_by_blocks) a.wrong(space, "a race with reads by other blocks");
    if (a.kind != READ && unordered(launch, s.read, s.reader, a.thread()))
        a.wrong(space, "a race with a read by " + other(launch, s.read, s.reader));
}

void note(const Access& a, Shadow& s) {
    const Launch& launch = *a.warp.launch;
    if (a.kind == READ) {
        if (s.read && s.read < launch.first_epoch) s.read_by_blocks = true;
        s.reader = s.read == launch.epoch && s.reader != a.thread() ? SEVERAL : int16_t(a.thread());
        s.read = launch.epoch;
    } else {
        s.written = launch.epoch, s.writer = int16_t(a.thread()), s.atomic = a.kind == ATOMIC;
    }
}

const Region* region_of(Warp& w, uint64_t at, size_t bytes) {
    const auto& regions = w.launch->regions;
    const auto holds = [&](const Region& r) { return at >= r.begin && at + bytes <= r.begin + r.bytes; };
    if (w.last_region < regions.size() && holds(regions[w.last_region])) return &regions[w.last_region];
    for (size_t i = 0; i < regions.size(); ++i)
        if (holds(regions[i])) {
            w.last_region = i;
            return &regions[i];
        }
    return nullptr;
}

[[noreturn]] void out_of_bounds(const Access& a) {
    const Region* nearest = nullptr;
    uint64_t least = ~uint64_t(0);
    for (const Region& r : a.warp.launch->regions) {
        const uint64_t away = a.at < r.begin ? r.begin - a.at : a.at + a.bytes > r.begin + r.bytes ? a.at + a.bytes - r.begin - r.bytes : 0;
        if (away < least) least = away, nearest = &r;
    }
    if (!nearest) a.wrong(GLOBAL, "out of bounds, and no array was given");
    a.wrong(GLOBAL, "out of bounds, " + std::to_string(least) + " bytes off the array of " + std::to_string(nearest->bytes) +
                        " bytes that is word " + std::to_string(nearest->argument) + " of the arguments");
}

void check_written(const Access& a) {
    uint32_t words[2] = {POISON, POISON};
    std::memcpy(words, reinterpret_cast<const void*>(a.at), std::min<size_t>(a.bytes, 8));
    if (a.bytes >= 4 && words[0] == POISON && words[1] == POISON) a.wrong(GLOBAL, "never written");
}

uint8_t* global(const Access& a) {
    const Region* region = region_of(a.warp, a.at, a.bytes);
    if (!region) out_of_bounds(a);
    if (a.kind != WRITE) check_written(a);
    const uint64_t first = (a.at - region->begin) / 4, last = (a.at + a.bytes - 1 - region->begin) / 4;
    if (a.bytes < 4 && a.kind != READ) a.wrong(GLOBAL, "the checker tells races by words of four bytes");
    for (uint64_t word = first; word <= last; ++word) {
        Shadow& s = (*region->shadow)[word];
        check_race(a, GLOBAL, s);
        note(a, s);
    }
    return reinterpret_cast<uint8_t*>(a.at);
}

bool within(const std::vector<Range>& ranges, uint64_t at, size_t bytes) {
    return std::any_of(ranges.begin(), ranges.end(), [&](const Range& r) { return at >= r.begin && at + bytes <= r.end; });
}

uint8_t* shared(const Access& a) {
    Launch& launch = *a.warp.launch;
    if (!within(launch.kernel->shared, a.at, a.bytes)) a.wrong(SHARED, "out of bounds");
    if (launch.checked)
        for (uint64_t i = a.at; i < a.at + a.bytes; ++i) {
            Shadow& s = launch.shared_shadow[i];
            // What another block left there is no value, and nobody's.
            if (s.written < launch.first_epoch) s.written = 0, s.atomic = false;
            if (s.read < launch.first_epoch) s.read = 0;
            s.read_by_blocks = false;
            if (a.kind != WRITE && s.written == 0) a.wrong(SHARED, "never written");
            check_race(a, SHARED, s);
            note(a, s);
        }
    return launch.shared.data() + a.at;
}

uint8_t* local(const Access& a) {
    const Kernel& kernel = *a.warp.launch->kernel;
    if (!within(kernel.local, a.at, a.bytes)) a.wrong(LOCAL, "out of bounds");
    const uint64_t at = uint64_t(a.lane) * kernel.local_bytes + a.at;
    uint8_t* written = a.warp.local_written.data() + at;
    if (a.kind == WRITE) std::fill(written, written + a.bytes, uint8_t(1));
    else if (std::count(written, written + a.bytes, uint8_t(1)) != int64_t(a.bytes)) a.wrong(LOCAL, "never written");
    return a.warp.local.data() + at;
}

uint8_t* parameter(const Access& a) {
    const Launch& launch = *a.warp.launch;
    if (a.at < FIRST_ADDRESS || a.at + a.bytes > FIRST_ADDRESS + launch.parameter_bytes) a.wrong(PARAMETERS, "out of bounds");
    return const_cast<uint8_t*>(launch.parameters) + (a.at - FIRST_ADDRESS);
}

template <Space S> uint8_t* place(Warp& w, const Op& op, int lane, Kind kind, size_t bytes) {
    const uint64_t base = op.d ? w.lanes<uint64_t>(op.a)[lane] : w.lanes<uint32_t>(op.a)[lane];
    const Access a{w, lane, kind, base + uint64_t(op.offset), bytes};
    a.aligned(S, op.align);
    if constexpr (S == GLOBAL) return global(a);
    if constexpr (S == SHARED) return shared(a);
    if constexpr (S == LOCAL) return local(a);
    return parameter(a);
}

// The same of a launch that is not checked, without the lane.
template <Space S> uint8_t* unchecked_base(Warp& w) {
    if constexpr (S == SHARED) return w.launch->shared.data();
    return nullptr;
}

// T as it lies in memory, D as it stands in the register.
template <Space S, class T, class D> void load(Warp& w, const Op& op) {
    D* d = w.lanes<D>(op.dst);
    if constexpr (S == GLOBAL || S == SHARED)
        if (!w.launch->checked) {
            const uint8_t* from = unchecked_base<S>(w) + op.offset;
            each_lane(w.active, [&](int l) {
                T x;
                std::memcpy(&x, from + (op.d ? w.lanes<uint64_t>(op.a)[l] : w.lanes<uint32_t>(op.a)[l]), sizeof x);
                d[l] = D(x);
            });
            return;
        }
    each_lane(w.active, [&](int l) {
        T x;
        std::memcpy(&x, place<S>(w, op, l, READ, sizeof x), sizeof x);
        d[l] = D(x);
    });
}
template <Space S, class T, class D> void store(Warp& w, const Op& op) {
    const D* b = w.lanes<D>(op.b);
    if constexpr (S == GLOBAL || S == SHARED)
        if (!w.launch->checked) {
            uint8_t* to = unchecked_base<S>(w) + op.offset;
            each_lane(w.active, [&](int l) {
                const T x = T(b[l]);
                std::memcpy(to + (op.d ? w.lanes<uint64_t>(op.a)[l] : w.lanes<uint32_t>(op.a)[l]), &x, sizeof x);
            });
            return;
        }
    each_lane(w.active, [&](int l) {
        const T x = T(b[l]);
        std::memcpy(place<S>(w, op, l, WRITE, sizeof x), &x, sizeof x);
    });
}
template <Space S, class T> void atomic_add(Warp& w, const Op& op) {
    const T* b = w.lanes<T>(op.b);
    T* d = op.dst < 0 ? nullptr : w.lanes<T>(op.dst);
    each_lane(w.active, [&](int l) {
        uint8_t* at = w.launch->checked ? place<S>(w, op, l, ATOMIC, sizeof(T))
                                        : unchecked_base<S>(w) + op.offset + (op.d ? w.lanes<uint64_t>(op.a)[l] : w.lanes<uint32_t>(op.a)[l]);
        T old, now;
        std::memcpy(&old, at, sizeof old);
        now = old + b[l];
        std::memcpy(at, &now, sizeof now);
        if (d) d[l] = old;
    });
}

#define ACCESSES(NAME, S)                                                                                              \
    {"ld." NAME ".u8.32", load<S, uint8_t, uint32_t>}, {"ld." NAME ".s8.32", load<S, int8_t, int32_t>},                \
        {"ld." NAME ".u16.32", load<S, uint16_t, uint32_t>}, {"ld." NAME ".s16.32", load<S, int16_t, int32_t>},       \
        {"ld." NAME ".u32.32", load<S, uint32_t, uint32_t>}, {"ld." NAME ".u32.64", load<S, uint32_t, uint64_t>},     \
        {"ld." NAME ".s32.64", load<S, int32_t, int64_t>}, {"ld." NAME ".u64.64", load<S, uint64_t, uint64_t>},       \
        {"ld." NAME ".u8.64", load<S, uint8_t, uint64_t>}, {"ld." NAME ".s8.64", load<S, int8_t, int64_t>},           \
        {"ld." NAME ".u16.64", load<S, uint16_t, uint64_t>}, {"ld." NAME ".s16.64", load<S, int16_t, int64_t>},       \
        {"st." NAME ".u8.32", store<S, uint8_t, uint32_t>}, {"st." NAME ".u16.32", store<S, uint16_t, uint32_t>},     \
        {"st." NAME ".u32.32", store<S, uint32_t, uint32_t>}, {"st." NAME ".u32.64", store<S, uint32_t, uint64_t>}, {  \
        "st." NAME ".u64.64", store<S, uint64_t, uint64_t>                                                             \
    }
#define ATOMICS(NAME, S)                                                                                            \
    {"atom." NAME ".add.f32", atomic_add<S, float>}, {"atom." NAME ".add.f64", atomic_add<S, double>},              \
        {"atom." NAME ".add.u32", atomic_add<S, uint32_t>}, {"atom." NAME ".add.s32", atomic_add<S, uint32_t>}, {   \
        "atom." NAME ".add.u64", atomic_add<S, uint64_t>                                                            \
    }

}  // namespace

void add_memory(std::vector<Named>& all) {
    all.insert(all.end(), {ACCESSES("global", GLOBAL), ACCESSES("shared", SHARED), ACCESSES("local", LOCAL), ACCESSES("param", PARAMETERS),
                           ATOMICS("global", GLOBAL), ATOMICS("shared", SHARED)});
}

}  // namespace ptx
