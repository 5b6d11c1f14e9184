// Conversions between types, and signs of floating-point numbers.
#include <cmath>
#include <limits>

#include "lanes.h"

namespace ptx {
namespace {

struct Plain {
    template <class D, class A> static D of(A a) { return D(a); }
};
// To the nearest number of type A in the range of D, NaN to zero.
template <class D, class A> D clamped(A a) {
    if (a != a) return D(0);
    if (a <= A(std::numeric_limits<D>::min())) return std::numeric_limits<D>::min();
    if (a >= A(std::numeric_limits<D>::max())) return std::numeric_limits<D>::max();
    return D(a);
}
struct Truncated {
    template <class D, class A> static D of(A a) { return clamped<D>(std::trunc(a)); }
};
struct Nearest {
    template <class D, class A> static D of(A a) { return clamped<D>(std::nearbyint(a)); }
};
struct Floor {
    template <class D, class A> static D of(A a) { return clamped<D>(std::floor(a)); }
};
struct Ceiling {
    template <class D, class A> static D of(A a) { return clamped<D>(std::ceil(a)); }
};
struct WholeDown {
    template <class D, class A> static D of(A a) { return std::floor(a); }
};
struct WholeUp {
    template <class D, class A> static D of(A a) { return std::ceil(a); }
};
struct WholeNear {
    template <class D, class A> static D of(A a) { return std::nearbyint(a); }
};
template <uint64_t BITS> struct Flipped {
    template <class D, class A> static D of(A a) { return a ^ A(BITS); }
};
template <uint64_t BITS> struct Kept {
    template <class D, class A> static D of(A a) { return a & A(BITS); }
};

template <class A> void from(std::vector<Named>& all, const std::vector<std::string>& names) {
    const Handler to[] = {unary<uint16_t, A, Plain>, unary<int16_t, A, Plain>, unary<uint32_t, A, Plain>, unary<int32_t, A, Plain>,
                          unary<uint64_t, A, Plain>, unary<int64_t, A, Plain>, unary<float, A, Plain>,    unary<double, A, Plain>,
                          unary<uint8_t, A, Plain>,  unary<int8_t, A, Plain>};
    for (size_t i = 0; i < names.size(); ++i) all.push_back({strdup(names[i].c_str()), to[i]});
}

template <class A> void whole_from(std::vector<Named>& all, const char* type) {
    std::vector<std::string> names;
    for (const char* to : {"u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64", "u8", "s8"}) names.push_back(std::string("cvt.") + to + "." + type);
    from<A>(all, names);
}

template <class F, class D, class A> void rounded(std::vector<Named>& all, const char* how, const char* to, const char* type) {
    all.push_back({strdup((std::string("cvt.") + how + "." + to + "." + type).c_str()), unary_each<D, A, F>});
}
template <class A> void rounded_from(std::vector<Named>& all, const char* type) {
    rounded<Truncated, int32_t, A>(all, "rzi", "s32", type);
    rounded<Truncated, uint32_t, A>(all, "rzi", "u32", type);
    rounded<Truncated, int64_t, A>(all, "rzi", "s64", type);
    rounded<Nearest, int32_t, A>(all, "rni", "s32", type);
    rounded<Nearest, int64_t, A>(all, "rni", "s64", type);
    rounded<Floor, int32_t, A>(all, "rmi", "s32", type);
    rounded<Floor, int64_t, A>(all, "rmi", "s64", type);
    rounded<Ceiling, int32_t, A>(all, "rpi", "s32", type);
    rounded<Ceiling, int64_t, A>(all, "rpi", "s64", type);
}

}  // namespace

void add_conversions(std::vector<Named>& all) {
    whole_from<uint8_t>(all, "u8");
    whole_from<int8_t>(all, "s8");
    whole_from<uint16_t>(all, "u16");
    whole_from<int16_t>(all, "s16");
    whole_from<uint32_t>(all, "u32");
    whole_from<int32_t>(all, "s32");
    whole_from<uint64_t>(all, "u64");
    whole_from<int64_t>(all, "s64");
    rounded_from<float>(all, "f32");
    rounded_from<double>(all, "f64");
    constexpr uint64_t SIGN_32 = 0x80000000u, SIGN_64 = 0x8000000000000000u;
    all.insert(all.end(), {
        {"cvt.f64.f32", unary<double, float, Plain>}, {"cvt.f32.f64", unary<float, double, Plain>},
        {"cvt.rmi.f32.f32", unary<float, float, WholeDown>}, {"cvt.rpi.f32.f32", unary<float, float, WholeUp>},
        {"cvt.rni.f32.f32", unary<float, float, WholeNear>},
        {"neg.f32", unary<uint32_t, uint32_t, Flipped<SIGN_32>>}, {"neg.f64", unary<uint64_t, uint64_t, Flipped<SIGN_64>>},
        {"abs.f32", unary<uint32_t, uint32_t, Kept<SIGN_32 - 1>>}, {"abs.f64", unary<uint64_t, uint64_t, Kept<SIGN_64 - 1>>},
    });
}

}  // namespace ptx
