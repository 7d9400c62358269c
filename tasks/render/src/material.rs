//! What a surface does with a ray.

use crate::sampler::Sampler;
use crate::scene;
use crate::vector::{Ray, Vec3, larger, smaller};

/// What a surface does with light, its numbers made ready.
#[derive(Debug, Clone)]
pub(crate) enum Material {
    Diffuse {
        color: Vec3,
        checker: Option<Vec3>,
        scale: f64,
        shine: f64,
        roughness: f64,
    },
    Metal {
        color: Vec3,
        roughness: f64,
    },
    Glass {
        color: Vec3,
        ior: f64,
    },
    Emissive {
        color: Vec3,
    },
}

impl Material {
    pub(crate) fn new(material: &scene::Material) -> Self {
        match *material {
            scene::Material::Diffuse {
                color,
                checker,
                scale,
                shine,
                roughness,
            } => Self::Diffuse {
                color: color.into(),
                checker: checker.map(Vec3::from),
                scale,
                shine,
                roughness,
            },
            scene::Material::Metal { color, roughness } => Self::Metal {
                color: color.into(),
                roughness,
            },
            scene::Material::Glass { color, ior } => Self::Glass {
                color: color.into(),
                ior,
            },
            scene::Material::Emissive { color } => Self::Emissive {
                color: color.into(),
            },
        }
    }
}

/// The colour of a checked surface at a point.
pub(crate) fn checked(color: Vec3, checker: Option<Vec3>, scale: f64, point: Vec3) -> Vec3 {
    match checker {
        Some(other) => {
            let column = (point.x / scale).floor();
            let row = (point.z / scale).floor();
            let half = (column + row) * 0.5;
            if half - half.floor() < 0.25 {
                color
            } else {
                other
            }
        }
        None => color,
    }
}

/// Mirrored at a surface that is rough: within a ball around the mirrored direction.
pub(crate) fn mirror(direction: Vec3, normal: Vec3, roughness: f64, sampler: &mut Sampler) -> Vec3 {
    let exact = direction.reflect(normal);
    if roughness <= 0.0 {
        return exact;
    }
    // Squared, so that equal steps of roughness look equal.
    let blurred = (exact + in_ball(sampler) * (roughness * roughness)).unit();
    // What would go below the surface is mirrored up again.
    if blurred.dot(normal) < 0.0 {
        blurred.reflect(normal)
    } else {
        blurred
    }
}

/// The share that is mirrored: Schlick's approximation.
pub(crate) fn schlick(straight: f64, cosine: f64) -> f64 {
    let away = 1.0 - larger(cosine, 0.0);
    let squared = away * away;
    straight + (1.0 - straight) * squared * squared * away
}

/// The share that a clear coat mirrors: `shine` at a right angle, ten times as much at the flattest.
/// A real coat mirrors everything there, but is never as even.
pub(crate) fn coat(shine: f64, cosine: f64) -> f64 {
    let flattest = smaller(10.0 * shine, 1.0);
    shine + (flattest - shine) * schlick(0.0, cosine)
}

/// Through glass or mirrored at it, as chance has it.
pub(crate) fn glass(ray: &Ray, normal: Vec3, ior: f64, sampler: &mut Sampler) -> Vec3 {
    let leaving = ray.direction.dot(normal) > 0.0;
    let (normal, ratio) = if leaving {
        (-normal, ior)
    } else {
        (normal, 1.0 / ior)
    };
    let cosine = -ray.direction.dot(normal);
    let bent = 1.0 - ratio * ratio * (1.0 - cosine * cosine);
    let straight = (1.0 - ior) / (1.0 + ior);
    let draw = sampler.next();
    if bent <= 0.0 {
        // Total reflection.
        return ray.direction.reflect(normal);
    }
    let inner = bent.sqrt();
    // Schlick wants the angle on the thin side.
    let mirrored = schlick(straight * straight, if leaving { inner } else { cosine });
    if draw < mirrored {
        ray.direction.reflect(normal)
    } else {
        (ray.direction * ratio + normal * (ratio * cosine - inner)).unit()
    }
}

/// A direction around `normal`, as often as its cosine.
pub(crate) fn scatter(normal: Vec3, sampler: &mut Sampler) -> Vec3 {
    let (x, y, rest) = disc(sampler);
    let (across, along) = normal.basis();
    across * x + along * y + normal * larger(1.0 - rest, 0.0).sqrt()
}

/// A direction, all alike.
pub(crate) fn anywhere(sampler: &mut Sampler) -> Vec3 {
    let height = 1.0 - 2.0 * sampler.next();
    let angle = std::f64::consts::TAU * sampler.next();
    let out = larger(1.0 - height * height, 0.0).sqrt();
    Vec3::new(out * libm::cos(angle), height, out * libm::sin(angle))
}

/// A point in the unit ball, all alike.
pub(crate) fn in_ball(sampler: &mut Sampler) -> Vec3 {
    anywhere(sampler) * libm::cbrt(sampler.next())
}

/// A point in the unit disc, all alike, and its distance from the centre squared.
pub(crate) fn disc(sampler: &mut Sampler) -> (f64, f64, f64) {
    let squared = sampler.next();
    let angle = std::f64::consts::TAU * sampler.next();
    let out = squared.sqrt();
    (out * libm::cos(angle), out * libm::sin(angle), squared)
}
