//! Paths of light, from the eye backwards.

use crate::light::Offer;
use crate::material::{Material, checked, coat, disc, glass, mirror, scatter, schlick};
use crate::sampler::Sampler;
use crate::scene::Scene;
use crate::vector::{Ray, Vec3};
use crate::world::World;

/// Surfaces on one path. Glass takes two for each body.
const BOUNCES_MAX: u32 = 16;
/// Surfaces on one path that scatter. The fourth adds less than the noise.
const SCATTERS_MAX: u32 = 3;
/// Surfaces after which a path goes on by chance only.
const CERTAIN: u32 = 3;
/// Brightest sample: a path of more is rare, and would be a white dot for want of others like it.
const BRIGHTEST: f64 = 24.0;
/// Panes of glass that light may pass on its way to a surface.
const PANES_MAX: u32 = 8;

/// Sees a scene through its camera.
#[derive(Debug)]
pub(crate) struct Tracer {
    world: World,
    eye: Vec3,
    right: Vec3,
    up: Vec3,
    forward: Vec3,
    /// Half of the picture's height at a distance of one.
    half: f64,
    aperture: f64,
    focus: f64,
}

impl Tracer {
    pub(crate) fn new(scene: &Scene) -> Result<Self, String> {
        let world = World::new(scene)?;
        let camera = &scene.camera;
        let eye = Vec3::from(camera.position);
        let view = Vec3::from(camera.target) - eye;
        let forward = view.unit();
        let right = forward.cross(Vec3::new(0.0, 1.0, 0.0)).unit();
        Ok(Self {
            world,
            eye,
            right,
            up: right.cross(forward),
            forward,
            half: libm::tan(camera.fov * (std::f64::consts::PI / 360.0)),
            aperture: camera.aperture,
            focus: camera.focus.unwrap_or(view.length()),
        })
    }

    /// The light that arrives at a place of the picture, in pixels from its upper left corner.
    pub(crate) fn camera_sample(
        &self,
        width: u32,
        height: u32,
        across: f64,
        down: f64,
        sampler: &mut Sampler,
    ) -> Vec3 {
        let (width, height) = (f64::from(width), f64::from(height));
        let x = (2.0 * across - width) / height * self.half;
        let y = (height - 2.0 * down) / height * self.half;
        let (lens_x, lens_y, _) = disc(sampler);
        let lens = (self.right * lens_x + self.up * lens_y) * self.aperture;
        let sharp = (self.forward + self.right * x + self.up * y) * self.focus;
        let ray = Ray {
            origin: self.eye + lens,
            direction: (sharp - lens).unit(),
        };
        let light = self.light(ray, sampler);
        // Beyond LARGEST numbers in a scene a sum may still overflow; such a sample is dark.
        if !light.is_finite() {
            return Vec3::ZERO;
        }
        let bright = light.largest();
        if bright > BRIGHTEST {
            light * (BRIGHTEST / bright)
        } else {
            light
        }
    }

    fn light(&self, mut ray: Ray, sampler: &mut Sampler) -> Vec3 {
        let mut light = Vec3::ZERO;
        let mut share = Vec3::ONE;
        // Until a surface scatters, lights are seen; after it their light has been drawn there already.
        let mut scatters = 0;
        for bounce in 0..BOUNCES_MAX {
            let hit = self.world.shapes.meet(&ray, f64::INFINITY);
            if scatters == 0 {
                let limit = hit.as_ref().map_or(f64::INFINITY, |hit| hit.distance);
                light = light + share.tint(self.world.lights.glow_along(&ray, limit));
            }
            let Some(hit) = hit else {
                let sky = if scatters == 0 {
                    self.world.sky.seen(ray.direction)
                } else {
                    self.world.sky.glow(ray.direction)
                };
                return light + share.tint(sky);
            };
            let point = ray.at(hit.distance);
            let outward = hit.shape.form.normal(point);
            let normal = if ray.direction.dot(outward) > 0.0 {
                -outward
            } else {
                outward
            };
            let (direction, color) = match self.world.materials[hit.shape.material as usize] {
                Material::Emissive { color } => {
                    return if scatters == 0 {
                        light + share.tint(color)
                    } else {
                        light
                    };
                }
                Material::Metal { color, roughness } => {
                    (mirror(ray.direction, normal, roughness, sampler), color)
                }
                Material::Glass { color, ior } => (glass(&ray, outward, ior, sampler), color),
                Material::Diffuse {
                    color,
                    checker,
                    scale,
                    shine,
                    roughness,
                } => {
                    let mirrored = if shine > 0.0 {
                        coat(shine, -ray.direction.dot(normal))
                    } else {
                        0.0
                    };
                    if sampler.next() < mirrored {
                        (mirror(ray.direction, normal, roughness, sampler), Vec3::ONE)
                    } else {
                        let color = checked(color, checker, scale, point);
                        light = light + share.tint(color).tint(self.lit(point, normal, sampler));
                        scatters += 1;
                        if scatters > SCATTERS_MAX {
                            return light;
                        }
                        (scatter(normal, sampler), color)
                    }
                }
            };
            share = share.tint(color);
            if bounce >= CERTAIN {
                let chance = share.largest();
                let chance = if chance < 0.95 { chance } else { 0.95 };
                if sampler.next() >= chance {
                    return light;
                }
                share = share * (1.0 / chance);
            }
            ray = Ray {
                origin: point,
                direction,
            };
        }
        light
    }

    /// What a white surface scatters of the light that comes straight from lights.
    fn lit(&self, point: Vec3, normal: Vec3, sampler: &mut Sampler) -> Vec3 {
        match self.world.lights.offer(point, normal, sampler) {
            Some(offer) => offer.light.tint(self.way(point, normal, &offer)),
            None => Vec3::ZERO,
        }
    }

    /// What is left of the light of an offer on its way. Glass lets it pass unbent, which stands in for
    /// the paths that really lead through it and are too rare to be found.
    fn way(&self, point: Vec3, normal: Vec3, offer: &Offer) -> Vec3 {
        let mut origin = point + normal * 1e-7;
        let mut left = Vec3::ONE;
        for _ in 0..PANES_MAX {
            let to = offer.from - origin;
            let length = to.length();
            let ray = Ray {
                origin,
                direction: to * (1.0 / length),
            };
            // Short of the surface that shines.
            let Some(hit) = self.world.shapes.meet(&ray, length * (1.0 - 1e-6)) else {
                return left;
            };
            let Material::Glass { color, ior } = self.world.materials[hit.shape.material as usize]
            else {
                return Vec3::ZERO;
            };
            let pane = ray.at(hit.distance);
            let cosine = ray.direction.dot(hit.shape.form.normal(pane));
            let cosine = if cosine < 0.0 { -cosine } else { cosine };
            let straight = (1.0 - ior) / (1.0 + ior);
            left = left.tint(color) * (1.0 - schlick(straight * straight, cosine));
            origin = pane;
        }
        Vec3::ZERO
    }
}
