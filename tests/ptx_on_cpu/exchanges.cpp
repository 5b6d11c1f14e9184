// Votes and shuffles of a warp. All lanes that the mask names must arrive together.
#include <cstdio>

#include "lanes.h"

namespace ptx {
namespace {

// Checks the mask in register `mask`, and that exactly its lanes are here.
void together(Warp& w, int32_t mask, const char* what) {
    const uint32_t* masks = w.lanes<uint32_t>(mask);
    each_lane(w.active, [&](int l) {
        if (masks[l] == w.active) return;
        char text[200];
        std::snprintf(text, sizeof text, "%s of diverged lanes: the mask names lanes %#x, and lanes %#x of warp %d of block %d are here", what, masks[l],
                      w.active, w.number, w.launch->block);
        throw Fault{text};
    });
}

uint32_t voted(Warp& w, const Op& op) {
    together(w, op.b, "a vote");
    return w.mask_of(op.a) & w.active;
}
void any(Warp& w, const Op& op) {
    const uint32_t votes = voted(w, op);
    assign<int32_t>(w, op, [&](int) { return -int32_t(votes != 0); });
}
void all_of(Warp& w, const Op& op) {
    const uint32_t votes = voted(w, op);
    assign<int32_t>(w, op, [&](int) { return -int32_t(votes == w.active); });
}
void ballot(Warp& w, const Op& op) {
    const uint32_t votes = voted(w, op);
    assign<uint32_t>(w, op, [&](int) { return votes; });
}

// dst = a of another lane; b says which, c how far lanes go (clamp and segments), d is the mask. Whole warps alone.
template <class Partner> void shuffle(Warp& w, const Op& op) {
    together(w, op.d, "a shuffle");
    uint32_t given[LANES];
    std::memcpy(given, w.lanes<uint32_t>(op.a), sizeof given);
    const uint32_t *which = w.lanes<uint32_t>(op.b), *limit = w.lanes<uint32_t>(op.c);
    uint32_t* d = w.lanes<uint32_t>(op.dst);
    each_lane(w.active, [&](int l) {
        if (limit[l] >> 8) throw Fault{"a shuffle within a part of a warp, which the checker does not know"};
        const int partner = Partner::of(l, int(which[l] & 31), int(limit[l] & 31));
        if (!(w.active >> partner & 1)) throw Fault{"a shuffle from lane " + std::to_string(partner) + ", which is not here"};
        d[l] = given[partner];
    });
}
struct Butterfly {
    static int of(int lane, int by, int limit) { return (lane ^ by) > limit ? lane : lane ^ by; }
};
struct Chosen {
    static int of(int, int by, int limit) { return by > limit ? limit : by; }
};
struct Down {
    static int of(int lane, int by, int limit) { return lane + by > limit ? lane : lane + by; }
};
struct Up {
    static int of(int lane, int by, int limit) { return lane - by < limit ? lane : lane - by; }
};

}  // namespace

void add_exchanges(std::vector<Named>& all) {
    all.insert(all.end(), {{"vote.any.pred", any}, {"vote.all.pred", all_of}, {"vote.ballot.b32", ballot}, {"shfl.bfly.b32", shuffle<Butterfly>},
                           {"shfl.idx.b32", shuffle<Chosen>}, {"shfl.down.b32", shuffle<Down>}, {"shfl.up.b32", shuffle<Up>}});
}

}  // namespace ptx
