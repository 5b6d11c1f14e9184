// Real spherical harmonics up to degree 4 as polynomials of a unit vector, in the sign convention of 3D Gaussian
// splatting (Sloan, "Efficient spherical harmonic evaluation", 2013).
#pragma once

#include "dual.h"
#include "scalar.h"

namespace diff3r {

constexpr int MAX_BASES = 25;  // (degree 4 + 1)²

template <class S> DIFF3R_INLINE void harmonic_basis(int bases, const S& x, const S& y, const S& z, S* out) {
    using R = Real<S>;
    out[0] = S(R(0.28209479177387814));
    if (bases <= 1) return;
    out[1] = R(-0.48860251190291987) * y;
    out[2] = R(0.48860251190291987) * z;
    out[3] = R(-0.48860251190291987) * x;
    if (bases <= 4) return;
    const S xx = x * x, yy = y * y, zz = z * z, xy = x * y, yz = y * z, xz = x * z;
    const S difference = xx - yy;
    out[4] = R(1.0925484305920792) * xy;
    out[5] = R(-1.0925484305920792) * yz;
    out[6] = R(0.31539156525252005) * (R(2) * zz - xx - yy);
    out[7] = R(-1.0925484305920792) * xz;
    out[8] = R(0.5462742152960396) * difference;
    if (bases <= 9) return;
    const S three_x = R(3) * xx - yy, three_y = xx - R(3) * yy, four_z = R(4) * zz - xx - yy;
    out[9] = R(-0.5900435899266435) * (y * three_x);
    out[10] = R(2.890611442640554) * (xy * z);
    out[11] = R(-0.4570457994644658) * (y * four_z);
    out[12] = R(0.3731763325901154) * (z * (R(2) * zz - R(3) * (xx + yy)));
    out[13] = R(-0.4570457994644658) * (x * four_z);
    out[14] = R(1.445305721320277) * (z * difference);
    out[15] = R(-0.5900435899266435) * (x * three_y);
    if (bases <= 16) return;
    const S seven_one = R(7) * zz - R(1), seven_three = R(7) * zz - R(3);
    out[16] = R(2.5033429417967046) * (xy * difference);
    out[17] = R(-1.7701307697799304) * (yz * three_x);
    out[18] = R(0.9461746957575601) * (xy * seven_one);
    out[19] = R(-0.6690465435572892) * (yz * seven_three);
    out[20] = R(0.10578554691520431) * (zz * (R(35) * zz - R(30)) + R(3));
    out[21] = R(-0.6690465435572892) * (xz * seven_three);
    out[22] = R(0.47308734787878004) * (difference * seven_one);
    out[23] = R(-1.7701307697799304) * (xz * three_y);
    out[24] = R(0.6258357354491761) * (xx * three_y - yy * three_x);
}

// The basis and its gradient with respect to the direction, by three-fold dual numbers.
template <class S>
DIFF3R_INLINE void harmonic_basis_with_gradient(int bases, const S* direction, S* out, S (*gradient)[3]) {
    using D = Dual<S, 3>;
    D basis[MAX_BASES];
    harmonic_basis(bases, D::variable(direction[0], 0), D::variable(direction[1], 1), D::variable(direction[2], 2), basis);
    DIFF3R_UNROLL
    for (int k = 0; k < bases; ++k) {
        out[k] = basis[k].v;
        DIFF3R_UNROLL
        for (int j = 0; j < 3; ++j) gradient[k][j] = basis[k].d[j];
    }
}

}  // namespace diff3r
