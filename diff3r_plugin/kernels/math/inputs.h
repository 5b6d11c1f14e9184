// What both C interfaces take, on a CPU and on a GPU: sizes and raw pointers to contiguous row-major arrays; and the same
// with types, as the kernels read it.
#pragma once

#include "pixel_math.h"
#include "integers.h"
#include "scalar.h"

extern "C" {

// B scenes of N Gaussians, V cameras each; I = B V images.
struct Diff3rInputs {
    int64_t batch, views, gaussians, bases, height, width;
    const void* means;            // [B, N, 3]
    const void* covariances;      // [B, N, 3, 3]; the mean of the two triangles is used
    const void* opacities;        // [B, N]
    const void* harmonics;        // [B, N, 3, bases]
    const void* world_to_camera;  // [B, V, 4, 4]
    const void* intrinsics;       // [B, V, 3, 3]
    const void* near_planes;      // [B, V]
    const void* far_planes;       // [B, V]
    const void* background;       // [3]
    double dilation;              // px², on both diagonal entries of the projected covariance
    int64_t antialiased;          // 1: opacities are dimmed by what the dilation adds to a splat's area
};

// A tangent (read) or a cotangent (written), shaped like the scene. world_to_camera may be null.
struct Diff3rVector {
    void* means;
    void* covariances;
    void* opacities;
    void* harmonics;
    void* world_to_camera;
};
}

namespace diff3r {

template <class T> struct Inputs {
    int64_t batch, views, gaussians, height, width;
    int bases;
    const T *means, *covariances, *opacities, *harmonics, *world_to_camera, *intrinsics, *near_planes, *far_planes, *background;
    T dilation;
    bool antialiased;

    DIFF3R_INLINE explicit Inputs(const Diff3rInputs& s)
        : batch(s.batch), views(s.views), gaussians(s.gaussians), height(s.height), width(s.width), bases(int(s.bases)),
          means(static_cast<const T*>(s.means)), covariances(static_cast<const T*>(s.covariances)),
          opacities(static_cast<const T*>(s.opacities)), harmonics(static_cast<const T*>(s.harmonics)),
          world_to_camera(static_cast<const T*>(s.world_to_camera)), intrinsics(static_cast<const T*>(s.intrinsics)),
          near_planes(static_cast<const T*>(s.near_planes)), far_planes(static_cast<const T*>(s.far_planes)),
          background(static_cast<const T*>(s.background)), dilation(T(s.dilation)), antialiased(s.antialiased != 0) {}
    DIFF3R_INLINE int64_t images() const { return batch * views; }
    DIFF3R_INLINE int64_t tiles_x() const { return (width + TILE - 1) / TILE; }
    DIFF3R_INLINE int64_t tiles_y() const { return (height + TILE - 1) / TILE; }
    DIFF3R_INLINE int64_t tiles() const { return tiles_x() * tiles_y(); }
};

template <class T> struct VectorView {
    T *means, *covariances, *opacities, *harmonics, *world_to_camera;
    DIFF3R_INLINE explicit VectorView(const Diff3rVector& v)
        : means(static_cast<T*>(v.means)), covariances(static_cast<T*>(v.covariances)), opacities(static_cast<T*>(v.opacities)),
          harmonics(static_cast<T*>(v.harmonics)), world_to_camera(static_cast<T*>(v.world_to_camera)) {}
};

}  // namespace diff3r
