// A GPU that runs PTX on a CPU, a warp at a time: what an instruction, a warp and a launch are. Registers hold 32 lanes side by
// side, so that an instruction is one loop over them; lanes that went different ways are run one way after the other and
// meet again at the branch's immediate postdominator, as on hardware with a stack of masks.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace ptx {

constexpr int LANES = 32;
constexpr uint32_t EVERY_LANE = 0xffffffffu;
constexpr uint64_t FIRST_ADDRESS = 256;       // of shared, local and parameter memory: nothing lies at zero
constexpr uint32_t POISON = 0xfff5a5a5u;      // a NaN, alone and twice in a row: what was never written

// An instruction as assemble.py packs it.
struct Op {
    int32_t code;               // in handlers(), or a Control
    int32_t guard, negated;     // register of its predicate, or -1
    int32_t dst, a, b, c, d;    // registers, as offsets in words of four bytes; -1: none
    int64_t offset;             // added to addresses
    int32_t target, reconverge; // of branches
    int32_t align;              // what its address has to be a multiple of, bytes
    int32_t counted;            // 0: a part of the instruction before it
};

enum Control : int32_t { BRANCH = -1, EXIT = -2, BARRIER = -3, BARRIER_COUNT = -4 };

// Something that a GPU would do wrong, or not at all.
struct Fault {
    std::string what;
};

// Who last touched a word; epochs count barriers and blocks over a whole launch, so that they tell blocks from each other.
struct Shadow {
    uint32_t written = 0, read = 0;     // epochs; 0: never
    int16_t writer = 0, reader = 0;     // threads; reader SEVERAL
    bool atomic = false;                // the last write
    bool read_by_blocks = false;        // by several
};

struct Region {  // of global memory, that a launch was given
    uint64_t begin, bytes;
    int32_t argument;  // the word of the arguments that is its address
    std::vector<Shadow>* shadow;
};

struct Range {
    uint64_t begin, end;
};

struct Kernel {
    std::vector<Op> ops;
    std::vector<int64_t> executed;  // by warps, an instruction each
    std::vector<uint32_t> constants;  // values of the first registers, one lane each
    int32_t constant_registers, words;
    std::vector<Range> shared, local;
    uint64_t shared_bytes, local_bytes;
};

struct Launch;

struct Path {
    int32_t pc, reconverge;
    uint32_t lanes;
};

struct Warp {
    Launch* launch = nullptr;
    int number = 0;
    uint32_t live = 0, active = 0;  // lanes
    alignas(64) int32_t on[LANES];  // -1 for an active lane
    std::vector<Path> paths;
    std::vector<uint32_t> storage;
    uint32_t* registers = nullptr;
    std::vector<uint8_t> local, local_written;
    int32_t waits_at = -1;
    size_t last_region = 0;

    void activate(uint32_t lanes) {
        if (lanes == active) return;
        active = lanes;
        for (int l = 0; l < LANES; ++l) on[l] = -int32_t(lanes >> l & 1);
    }
    int thread(int lane) const { return LANES * number + lane; }
    template <class T> T* lanes(int32_t at) { return reinterpret_cast<T*>(registers + at); }
    uint32_t mask_of(int32_t predicate) {
        uint32_t bits = 0;
        const int32_t* p = lanes<int32_t>(predicate);
        for (int l = 0; l < LANES; ++l) bits |= uint32_t(p[l] & 1) << l;
        return bits;
    }
};

struct Launch {
    Kernel* kernel;
    int blocks, threads;
    const uint8_t* parameters;
    uint64_t parameter_bytes;
    std::vector<Region> regions;  // by address
    bool checked;
    int slice;  // a warp goes on for so many instructions at most before another has its turn
    std::mt19937 chance;
    int block = 0;
    uint32_t epoch = 1, first_epoch = 1;  // now, and of this block
    std::vector<uint8_t> shared;
    std::vector<Shadow> shared_shadow;
    std::vector<Warp> warps;
};

using Handler = void (*)(Warp&, const Op&);
struct Named {
    const char* name;
    Handler handler;
};
// All instructions but the controls, by their names (the parts that do not matter here left out).
const std::vector<Named>& handlers();
void add_arithmetic(std::vector<Named>& all);
void add_conversions(std::vector<Named>& all);
void add_memory(std::vector<Named>& all);
void add_exchanges(std::vector<Named>& all);

// Runs all blocks; throws a Fault, with the instruction in `at`.
void run(Launch& launch, int32_t& at);

template <class Body> void each_lane(uint32_t lanes, const Body& body) {
    for (; lanes; lanes &= lanes - 1) body(__builtin_ctz(lanes));
}

}  // namespace ptx
