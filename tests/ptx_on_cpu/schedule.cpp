// Which warp runs when, and which lanes of it: blocks and warps in random order, each for a random while; paths of a branch in
// random order, until they meet.
#include <algorithm>
#include <numeric>

#include "machine.h"

namespace ptx {
namespace {

enum class Stop { SLICE, BARRIER, END };

// Puts the lanes of the innermost path to work; those that have come to where they meet the others wait for them there.
bool settle(Warp& w) {
    while (!w.paths.empty()) {
        const Path& inner = w.paths.back();
        if (inner.lanes && inner.pc != inner.reconverge) {
            w.activate(inner.lanes);
            return true;
        }
        w.paths.pop_back();
    }
    w.active = 0;
    return false;
}

void branch(Warp& w, const Op& op, uint32_t taken) {
    const Path here = w.paths.back();
    const uint32_t others = here.lanes & ~taken;
    if (!others || !taken) {
        w.paths.back().pc = others ? here.pc + 1 : op.target;
        return;
    }
    if (op.reconverge == here.reconverge)
        w.paths.pop_back();
    else
        w.paths.back().pc = op.reconverge;
    Path ways[2] = {{op.target, op.reconverge, taken}, {here.pc + 1, op.reconverge, others}};
    if (w.launch->chance() & 1) std::swap(ways[0], ways[1]);
    w.paths.push_back(ways[0]);
    w.paths.push_back(ways[1]);
}

void leave(Warp& w, uint32_t lanes) {
    w.live &= ~lanes;
    ++w.paths.back().pc;  // of lanes that stay, where the exit is guarded
    for (Path& path : w.paths) path.lanes &= ~lanes;
}

void arrive(Warp& w, int32_t pc) {
    if (w.active != EVERY_LANE)
        throw Fault{"a barrier of diverged lanes: " + std::to_string(__builtin_popcount(w.active)) + " lanes of warp " + std::to_string(w.number) +
                    " of block " + std::to_string(w.launch->block) + " are here"};
    w.waits_at = pc;
}

uint32_t guarded(Warp& w, const Op& op) {
    if (op.guard < 0) return w.active;
    const uint32_t on = w.mask_of(op.guard);
    return w.active & (op.negated ? ~on : on);
}

Stop go_on(Warp& w, int64_t instructions, int32_t& at) {
    Kernel& kernel = *w.launch->kernel;
    const auto& all = handlers();
    while (settle(w)) {
        const int32_t pc = at = w.paths.back().pc;
        const Op& op = kernel.ops[size_t(pc)];
        ++kernel.executed[size_t(pc)];
        const uint32_t lanes = w.active, chosen = guarded(w, op);
        if (op.code == BRANCH) {
            branch(w, op, chosen);
        } else if (op.code == EXIT) {
            leave(w, chosen);
        } else if (op.code == BARRIER || op.code == BARRIER_COUNT) {
            arrive(w, pc);
            return Stop::BARRIER;
        } else {
            if (chosen) {
                w.activate(chosen);
                all[size_t(op.code)].handler(w, op);
                w.activate(lanes);
            }
            ++w.paths.back().pc;
        }
        if (--instructions <= 0) return Stop::SLICE;
    }
    return Stop::END;
}

void start(Warp& w, Launch& launch, int number) {
    const Kernel& kernel = *launch.kernel;
    w.launch = &launch, w.number = number, w.live = EVERY_LANE, w.waits_at = -1;
    w.active = 0;
    w.paths.assign(1, Path{0, int32_t(kernel.ops.size()), EVERY_LANE});
    constexpr size_t ALIGN = 64 / sizeof(uint32_t);
    w.storage.assign(size_t(kernel.words) + ALIGN, POISON);
    w.registers = w.storage.data() + (ALIGN - reinterpret_cast<uintptr_t>(w.storage.data()) / sizeof(uint32_t) % ALIGN) % ALIGN;
    std::memcpy(w.registers, kernel.constants.data(), sizeof(uint32_t) * kernel.constants.size());
    // The special registers come first (assemble.py).
    for (int l = 0; l < LANES; ++l) {
        w.registers[l] = uint32_t(w.thread(l));
        w.registers[LANES + l] = uint32_t(launch.block);
        w.registers[2 * LANES + l] = uint32_t(launch.threads);
        w.registers[3 * LANES + l] = uint32_t(launch.blocks);
        w.registers[4 * LANES + l] = uint32_t(l);
    }
    w.local.assign(kernel.local_bytes * LANES, 0xff);
    w.local_written.assign(kernel.local_bytes * LANES, 0);
}

// All warps are at a barrier: lets them go on.
void open(Launch& launch, int32_t& at) {
    at = launch.warps[0].waits_at;
    for (Warp& w : launch.warps) {
        if (w.waits_at == at) continue;
        at = std::max(at, w.waits_at);
        throw Fault{w.waits_at < 0 || launch.warps[0].waits_at < 0
                        ? "a barrier that " + std::string("warps of block ") + std::to_string(launch.block) + " wait at while others have ended"
                        : "warps of block " + std::to_string(launch.block) + " meet at different barriers"};
    }
    const Op& op = launch.kernel->ops[size_t(at)];
    if (op.code == BARRIER_COUNT) {
        uint32_t count = 0;
        for (Warp& w : launch.warps) count += uint32_t(__builtin_popcount(w.mask_of(op.a)));
        for (Warp& w : launch.warps) std::fill_n(w.lanes<uint32_t>(op.dst), LANES, count);
    }
    for (Warp& w : launch.warps) w.waits_at = -1, ++w.paths.back().pc;
    ++launch.epoch;
}

void run_block(Launch& launch, int32_t& at) {
    launch.first_epoch = ++launch.epoch;
    std::fill(launch.shared.begin(), launch.shared.end(), uint8_t(0xff));
    for (size_t i = 0; i < launch.warps.size(); ++i) start(launch.warps[i], launch, int(i));
    std::vector<size_t> ready(launch.warps.size());
    std::iota(ready.begin(), ready.end(), size_t(0));
    while (true) {
        while (!ready.empty()) {
            std::swap(ready[launch.chance() % ready.size()], ready.back());
            const int64_t slice = 1 + int64_t(launch.chance() % uint32_t(launch.slice));
            if (go_on(launch.warps[ready.back()], slice, at) != Stop::SLICE) ready.pop_back();
        }
        if (std::all_of(launch.warps.begin(), launch.warps.end(), [](const Warp& w) { return w.paths.empty(); })) return;
        open(launch, at);
        ready.resize(launch.warps.size());
        std::iota(ready.begin(), ready.end(), size_t(0));
    }
}

}  // namespace

const std::vector<Named>& handlers() {
    static const std::vector<Named> all = [] {
        std::vector<Named> found;
        add_arithmetic(found);
        add_conversions(found);
        add_memory(found);
        add_exchanges(found);
        return found;
    }();
    return all;
}

void run(Launch& launch, int32_t& at) {
    const Kernel& kernel = *launch.kernel;
    launch.shared.resize(kernel.shared_bytes);
    launch.shared_shadow.resize(kernel.shared_bytes);
    launch.warps.resize(size_t(launch.threads / LANES));
    std::vector<int> order(size_t(launch.blocks), 0);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), launch.chance);
    for (const int block : order) {
        launch.block = block;
        run_block(launch, at);
    }
}

}  // namespace ptx
