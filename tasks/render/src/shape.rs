//! Spheres and triangles, and where rays meet them.

use crate::vector::{Ray, Vec3, larger, smaller};

/// Closer than this is the surface that the ray starts from.
pub(crate) const NEAR: f64 = 1e-6;

/// A shape with the index of its material.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) form: Form,
    pub(crate) material: u32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    Sphere {
        center: Vec3,
        radius: f64,
    },
    /// A corner and the two edges from it.
    Triangle {
        corner: Vec3,
        first: Vec3,
        second: Vec3,
    },
}

impl Form {
    /// Distance to the nearest meeting beyond [`NEAR`] and before `limit`.
    pub(crate) fn meet(&self, ray: &Ray, limit: f64) -> Option<f64> {
        let distance = match *self {
            Self::Sphere { center, radius } => {
                let (near, far) = through_sphere(center, radius, ray)?;
                if near > NEAR { near } else { far }
            }
            Self::Triangle {
                corner,
                first,
                second,
            } => {
                // Möller and Trumbore, 1997.
                let p = ray.direction.cross(second);
                let determinant = first.dot(p);
                if determinant > -1e-12 && determinant < 1e-12 {
                    return None;
                }
                let inverse = 1.0 / determinant;
                let t = ray.origin - corner;
                let u = t.dot(p) * inverse;
                if !(0.0..=1.0).contains(&u) {
                    return None;
                }
                let q = t.cross(first);
                let v = ray.direction.dot(q) * inverse;
                if v < 0.0 || u + v > 1.0 {
                    return None;
                }
                second.dot(q) * inverse
            }
        };
        (distance > NEAR && distance < limit).then_some(distance)
    }

    /// The unit normal at a point of the surface; of a sphere it points outwards.
    pub(crate) fn normal(&self, point: Vec3) -> Vec3 {
        match *self {
            Self::Sphere { center, radius } => (point - center) * (1.0 / radius),
            Self::Triangle { first, second, .. } => first.cross(second).unit(),
        }
    }

    pub(crate) fn area(&self) -> f64 {
        match *self {
            Self::Sphere { radius, .. } => 4.0 * std::f64::consts::PI * radius * radius,
            Self::Triangle { first, second, .. } => 0.5 * first.cross(second).length(),
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        match *self {
            Self::Sphere { center, radius } => {
                let reach = Vec3::ONE * radius;
                Bounds {
                    low: center - reach,
                    high: center + reach,
                }
            }
            Self::Triangle {
                corner,
                first,
                second,
            } => Bounds::EMPTY
                .with(corner)
                .with(corner + first)
                .with(corner + second),
        }
    }
}

/// Where a ray's line enters and leaves a sphere.
pub(crate) fn through_sphere(center: Vec3, radius: f64, ray: &Ray) -> Option<(f64, f64)> {
    let to = center - ray.origin;
    let middle = to.dot(ray.direction);
    // The distance of the centre from the line, not from the origin: no difference of large numbers.
    let aside = to - ray.direction * middle;
    let half = radius * radius - aside.dot(aside);
    if half <= 0.0 {
        return None;
    }
    let half = half.sqrt();
    Some((middle - half, middle + half))
}

/// A box along the axes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) low: Vec3,
    pub(crate) high: Vec3,
}

impl Bounds {
    pub(crate) const EMPTY: Self = Self {
        low: Vec3::new(f64::INFINITY, f64::INFINITY, f64::INFINITY),
        high: Vec3::new(f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY),
    };

    pub(crate) fn with(self, point: Vec3) -> Self {
        self.join(Self {
            low: point,
            high: point,
        })
    }

    pub(crate) fn join(self, other: Self) -> Self {
        Self {
            low: Vec3::new(
                smaller(self.low.x, other.low.x),
                smaller(self.low.y, other.low.y),
                smaller(self.low.z, other.low.z),
            ),
            high: Vec3::new(
                larger(self.high.x, other.high.x),
                larger(self.high.y, other.high.y),
                larger(self.high.z, other.high.z),
            ),
        }
    }

    pub(crate) fn center(&self) -> Vec3 {
        (self.low + self.high) * 0.5
    }

    /// Half of the surface.
    pub(crate) fn surface(&self) -> f64 {
        let size = self.high - self.low;
        size.x * size.y + size.y * size.z + size.z * size.x
    }

    /// Distance at which a ray, given as its origin and the inverse of its direction, enters the box
    /// before `limit`. A direction along an axis has an infinite inverse; the NaN of a ray in the plane
    /// of a side loses every comparison and so widens the interval: a box may be entered in vain.
    pub(crate) fn enter(&self, origin: Vec3, inverse: Vec3, limit: f64) -> Option<f64> {
        let mut near = 0.0;
        let mut far = limit;
        for axis in 0..3 {
            let (from, by) = (origin.axis(axis), inverse.axis(axis));
            let first = (self.low.axis(axis) - from) * by;
            let second = (self.high.axis(axis) - from) * by;
            let (first, second) = if by < 0.0 {
                (second, first)
            } else {
                (first, second)
            };
            if first > near {
                near = first;
            }
            if second < far {
                far = second;
            }
        }
        // A little wider, for triangles that lie in the side of their box.
        (near <= far * (1.0 + 1e-9) + 1e-9).then_some(near)
    }
}
