//! Everything that sends out light, and how a surface draws some of it.

use crate::material::{anywhere, in_ball};
use crate::sampler::Sampler;
use crate::shape::{Bounds, Form, through_sphere};
use crate::vector::{Ray, Vec3, larger, smaller};

/// Lights looked at for one that is used. One ray is the cost of a look at many, and the choice by what
/// they would give without shadow takes most of the noise away.
const LOOKS: u32 = 6;

/// A ball of light that hides nothing. It is brightest in the middle: at a distance `d` from it, it
/// sends out `color · (1 − d²/radius²)` along each unit of length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glow {
    pub(crate) center: Vec3,
    pub(crate) radius: f64,
    pub(crate) color: Vec3,
}

impl Glow {
    /// The light along a ray up to `limit`.
    fn along(&self, ray: &Ray, limit: f64) -> Vec3 {
        let Some((near, far)) = through_sphere(self.center, self.radius, ray) else {
            return Vec3::ZERO;
        };
        let middle = 0.5 * (near + far);
        let half = far - middle;
        let from = larger(near, 0.0) - middle;
        let to = smaller(far, limit) - middle;
        if to <= from {
            return Vec3::ZERO;
        }
        // The integral of (half² − s²)/radius².
        let integral = |s: f64| s * half * half - s * s * s / 3.0;
        self.color * ((integral(to) - integral(from)) / (self.radius * self.radius))
    }
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Surface(Form),
    Ball(Glow),
}

impl Source {
    fn center(&self) -> Vec3 {
        match self {
            Self::Surface(form) => form.bounds().center(),
            Self::Ball(glow) => glow.center,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Light {
    source: Source,
    color: Vec3,
    /// Chance of being looked at, and the sum of those before it and its own.
    chance: f64,
    until: f64,
}

/// Light that a surface may get, if nothing is in the way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    /// From where.
    pub(crate) from: Vec3,
    /// What a white surface would scatter of it.
    pub(crate) light: Vec3,
}

/// Everything that sends out light.
#[derive(Debug)]
pub(crate) struct Lights {
    lights: Vec<Light>,
    glows: Vec<Glow>,
    bounds: Bounds,
}

impl Lights {
    /// `middle` is where most of what is seen is: lights far from it are looked at less.
    pub(crate) fn new(surfaces: &[(Form, Vec3)], glows: Vec<Glow>, middle: Vec3) -> Self {
        // The integral of a glow over its volume is 8π/15 of color · radius³, sent out in all directions.
        let glow_power = |glow: &Glow| {
            32.0 / 15.0 * std::f64::consts::PI * glow.radius * glow.radius * glow.radius
        };
        let sources = surfaces
            .iter()
            .map(|(form, color)| (Source::Surface(*form), *color, form.area()))
            .chain(
                glows
                    .iter()
                    .map(|glow| (Source::Ball(*glow), glow.color, glow_power(glow))),
            );
        let weighed: Vec<_> = sources
            .map(|(source, color, size)| {
                let away = source.center() - middle;
                (
                    source,
                    color,
                    color.luminance() * size / (1.0 + away.dot(away)),
                )
            })
            .filter(|(_, _, power)| *power > 0.0)
            .collect();
        let total: f64 = weighed.iter().map(|(_, _, power)| power).sum();
        let mut until = 0.0;
        let lights = weighed
            .into_iter()
            .map(|(source, color, power)| {
                let chance = power / total;
                until += chance;
                Light {
                    source,
                    color,
                    chance,
                    until,
                }
            })
            .collect();
        let bounds = glows.iter().fold(Bounds::EMPTY, |bounds, glow| {
            let reach = Vec3::ONE * glow.radius;
            bounds.with(glow.center - reach).with(glow.center + reach)
        });
        Self {
            lights,
            glows,
            bounds,
        }
    }

    /// The light of all glows along a ray up to `limit`.
    pub(crate) fn glow_along(&self, ray: &Ray, limit: f64) -> Vec3 {
        let d = ray.direction;
        let inverse = Vec3::new(1.0 / d.x, 1.0 / d.y, 1.0 / d.z);
        if self.glows.is_empty() || self.bounds.enter(ray.origin, inverse, limit).is_none() {
            return Vec3::ZERO;
        }
        self.glows
            .iter()
            .fold(Vec3::ZERO, |sum, glow| sum + glow.along(ray, limit))
    }

    /// Light for a surface, drawn so that its mean is all the light there is (resampled importance
    /// sampling: one of some offers is kept, as often as it is bright).
    pub(crate) fn offer(&self, point: Vec3, normal: Vec3, sampler: &mut Sampler) -> Option<Offer> {
        let mut kept: Option<(Offer, f64)> = None;
        let mut total = 0.0;
        for _ in 0..LOOKS {
            let Some(offer) = self.look(point, normal, sampler) else {
                continue;
            };
            let weight = offer.light.luminance();
            if weight <= 0.0 {
                continue;
            }
            total += weight;
            if kept.is_none() || sampler.next() * total < weight {
                kept = Some((offer, weight));
            }
        }
        let (offer, weight) = kept?;
        Some(Offer {
            light: offer.light * (total / (weight * f64::from(LOOKS))),
            ..offer
        })
    }

    fn look(&self, point: Vec3, normal: Vec3, sampler: &mut Sampler) -> Option<Offer> {
        let draw = sampler.next();
        let index = self.lights.partition_point(|light| light.until <= draw);
        let light = self.lights.get(index).or(self.lights.last())?;
        let (from, facing, density) = match light.source {
            Source::Surface(Form::Sphere { center, radius }) => {
                // The half that is turned here holds all that can be seen of it.
                let toward = point - center;
                let out = anywhere(sampler);
                let out = if out.dot(toward) < 0.0 { -out } else { out };
                let area = 2.0 * std::f64::consts::PI * radius * radius;
                (center + out * radius, Some(out), area)
            }
            Source::Surface(
                form @ Form::Triangle {
                    corner,
                    first,
                    second,
                },
            ) => {
                let root = sampler.next().sqrt();
                let along = sampler.next();
                let from = corner + first * (root * (1.0 - along)) + second * (root * along);
                (from, Some(form.normal(from)), form.area())
            }
            Source::Ball(glow) => {
                let place = in_ball(sampler);
                let volume =
                    4.0 / 3.0 * std::f64::consts::PI * glow.radius * glow.radius * glow.radius;
                let bright = 1.0 - place.dot(place);
                (glow.center + place * glow.radius, None, volume * bright)
            }
        };
        let to = from - point;
        let squared = to.dot(to);
        let direction = to * (1.0 / squared.sqrt());
        let here = direction.dot(normal);
        // A triangle shines on both sides.
        let there = match (facing, light.source) {
            (Some(out), Source::Surface(Form::Triangle { .. })) => {
                let cosine = direction.dot(out);
                if cosine < 0.0 { -cosine } else { cosine }
            }
            (Some(out), _) => -direction.dot(out),
            (None, _) => 1.0,
        };
        if here <= 0.0 || there <= 0.0 {
            return None;
        }
        // Within a glow the light of its nearest part would be without bound.
        let squared = match light.source {
            Source::Ball(glow) => larger(squared, 0.01 * glow.radius * glow.radius),
            Source::Surface(_) => larger(squared, 1e-6),
        };
        let share = here * there * density / (std::f64::consts::PI * squared * light.chance);
        Some(Offer {
            from,
            light: light.color * share,
        })
    }
}
