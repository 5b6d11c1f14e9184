// What machine.py calls.
#include <algorithm>
#include <memory>

#include "machine.h"

namespace {

std::string last_fault;

}  // namespace

extern "C" {

// The code of an instruction by its name, -1 if there is none.
int32_t ptx_code(const char* name) {
    const auto& all = ptx::handlers();
    const auto found = std::find_if(all.begin(), all.end(), [&](const ptx::Named& one) { return std::strcmp(one.name, name) == 0; });
    return found == all.end() ? -1 : int32_t(found - all.begin());
}

// constants: of the first registers, a word for each of 32 lanes; words: of all registers; ranges: begin and end of variables.
void* ptx_kernel(const ptx::Op* ops, int64_t count, const uint32_t* constants, int64_t constant_words, int64_t words, const uint64_t* shared,
                 int64_t shared_ranges, const uint64_t* local, int64_t local_ranges) {
    auto* kernel = new ptx::Kernel();
    kernel->ops.assign(ops, ops + count);
    kernel->executed.assign(size_t(count), 0);
    kernel->constants.assign(constants, constants + constant_words);
    kernel->words = int32_t(words);
    const auto ranges = [](const uint64_t* from, int64_t number, std::vector<ptx::Range>& to) {
        uint64_t end = 0;
        for (int64_t i = 0; i < number; ++i) to.push_back({from[2 * i], from[2 * i + 1]}), end = std::max(end, to.back().end);
        return end;
    };
    kernel->shared_bytes = ranges(shared, shared_ranges, kernel->shared);
    kernel->local_bytes = ranges(local, local_ranges, kernel->local);
    return kernel;
}

// regions: begin, bytes and word of the arguments of each array that the kernel may touch. Returns the index of the instruction
// at fault, or -1.
int64_t ptx_launch(void* of, int64_t blocks, int64_t threads, const uint8_t* arguments, int64_t bytes, const uint64_t* regions, int64_t count,
                   int32_t checked, int32_t slice, uint32_t seed) {
    ptx::Launch launch;
    launch.kernel = static_cast<ptx::Kernel*>(of);
    launch.blocks = int(blocks), launch.threads = int(threads);
    launch.parameters = arguments, launch.parameter_bytes = uint64_t(bytes);
    launch.checked = checked, launch.slice = slice;
    launch.chance.seed(seed);
    std::vector<std::unique_ptr<std::vector<ptx::Shadow>>> shadows;
    for (int64_t i = 0; checked && i < count; ++i) {
        const uint64_t* r = regions + 3 * i;
        shadows.push_back(std::make_unique<std::vector<ptx::Shadow>>(size_t(r[1] + 7) / 4));
        launch.regions.push_back({r[0], r[1], int32_t(r[2]), shadows.back().get()});
    }
    int32_t at = -1;
    try {
        ptx::run(launch, at);
    } catch (const ptx::Fault& fault) {
        last_fault = fault.what;
        return at;
    }
    return -1;
}

const char* ptx_fault() { return last_fault.c_str(); }

// How often warps executed each instruction so far.
void ptx_executed(const void* of, int64_t* out) {
    const auto& executed = static_cast<const ptx::Kernel*>(of)->executed;
    std::copy(executed.begin(), executed.end(), out);
}
}
