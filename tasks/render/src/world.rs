//! A scene, checked and made ready for rays.

use std::collections::BTreeMap;

use crate::bvh::Bvh;
use crate::light::{Glow, Lights};
use crate::material::Material;
use crate::scene::{self, SHAPES_MAX, Scene, Triple};
use crate::shape::{Form, Shape};
use crate::sky::Sky;
use crate::vector::Vec3;

/// A scene made ready for rays.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) shapes: Bvh,
    pub(crate) materials: Vec<Material>,
    pub(crate) lights: Lights,
    pub(crate) sky: Sky,
}

impl World {
    /// Checks a scene and makes it ready. The text of a refusal says what is wrong with the scene.
    pub(crate) fn new(scene: &Scene) -> Result<Self, String> {
        check_surroundings(scene)?;
        let count = scene.spheres.len()
            + scene.triangles.len()
            + scene.glows.len()
            + scene
                .meshes
                .iter()
                .map(|mesh| mesh.faces.len())
                .sum::<usize>();
        if count > SHAPES_MAX {
            return Err(format!("{count} shapes, at most {SHAPES_MAX} are allowed"));
        }
        let names: BTreeMap<&str, u32> = scene
            .materials
            .keys()
            .map(String::as_str)
            .zip(0..)
            .collect();
        let materials = scene
            .materials
            .iter()
            .map(|(name, material)| {
                check_material(name, material).map(|()| Material::new(material))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let named = |name: &str| {
            names
                .get(name)
                .copied()
                .ok_or_else(|| format!("there is no material {name:?}"))
        };

        let mut shapes = Vec::with_capacity(count);
        for sphere in &scene.spheres {
            shapes.push(Shape {
                form: Form::Sphere {
                    center: place("a sphere", sphere.at)?,
                    radius: positive("the radius of a sphere", sphere.radius)?,
                },
                material: named(&sphere.material)?,
            });
        }
        for triangle in &scene.triangles {
            let material = named(&triangle.material)?;
            shapes.extend(form_of(triangle.corners)?.map(|form| Shape { form, material }));
        }
        for mesh in &scene.meshes {
            let material = named(&mesh.material)?;
            for face in &mesh.faces {
                let mut corners = [[0.0; 3]; 3];
                for (corner, index) in corners.iter_mut().zip(face) {
                    *corner = *mesh
                        .corners
                        .get(*index as usize)
                        .ok_or_else(|| format!("a mesh has no corner {index}"))?;
                }
                shapes.extend(form_of(corners)?.map(|form| Shape { form, material }));
            }
        }
        let glows = scene
            .glows
            .iter()
            .map(glow)
            .collect::<Result<Vec<_>, _>>()?;

        let bright: Vec<(Form, Vec3)> = shapes
            .iter()
            .filter_map(|shape| match &materials[shape.material as usize] {
                Material::Emissive { color } => Some((shape.form, *color)),
                _ => None,
            })
            .collect();
        Ok(Self {
            shapes: Bvh::new(shapes),
            materials,
            lights: Lights::new(&bright, glows, scene.camera.target.into()),
            sky: Sky::new(&scene.sky),
        })
    }
}

/// Coordinates and colours beyond this are a mistake, and would end in numbers that are not finite.
const LARGEST: f64 = 1e9;

fn place(what: &str, [x, y, z]: Triple) -> Result<Vec3, String> {
    let inside = |number: f64| (-LARGEST..=LARGEST).contains(&number);
    if inside(x) && inside(y) && inside(z) {
        Ok(Vec3::new(x, y, z))
    } else {
        Err(format!("{what} has a number beyond {LARGEST:e}"))
    }
}

fn within(what: &str, number: f64, low: f64, high: f64) -> Result<f64, String> {
    if (low..=high).contains(&number) {
        Ok(number)
    } else {
        Err(format!("{what} is {number}, not between {low} and {high}"))
    }
}

fn positive(what: &str, number: f64) -> Result<f64, String> {
    within(what, number, 1e-9, LARGEST)
}

fn color(what: &str, channels: Triple) -> Result<(), String> {
    channels
        .into_iter()
        .try_for_each(|channel| within(what, channel, 0.0, LARGEST).map(drop))
}

/// The share of light that a surface gives back: no more than it gets.
fn share(what: &str, channels: Triple) -> Result<(), String> {
    channels
        .into_iter()
        .try_for_each(|channel| within(what, channel, 0.0, 1.0).map(drop))
}

/// A triangle, `None` if its corners are on one line: then it cannot be seen.
fn form_of(corners: [Triple; 3]) -> Result<Option<Form>, String> {
    let [a, b, c] = corners;
    let corner = place("a triangle", a)?;
    let first = place("a triangle", b)? - corner;
    let second = place("a triangle", c)? - corner;
    let flat = first.cross(second).length() <= 1e-12;
    Ok((!flat).then_some(Form::Triangle {
        corner,
        first,
        second,
    }))
}

fn glow(glow: &scene::Glow) -> Result<Glow, String> {
    color("the colour of a glow", glow.color)?;
    Ok(Glow {
        center: place("a glow", glow.at)?,
        radius: positive("the radius of a glow", glow.radius)?,
        color: glow.color.into(),
    })
}

fn check_material(name: &str, material: &scene::Material) -> Result<(), String> {
    let what = format!("material {name:?}");
    match *material {
        scene::Material::Diffuse {
            color,
            checker,
            scale,
            shine,
            roughness,
        } => {
            share(&what, color)?;
            share(&what, checker.unwrap_or_default())?;
            positive(&what, scale)?;
            within(&what, shine, 0.0, 1.0)?;
            within(&what, roughness, 0.0, 1.0)?;
        }
        scene::Material::Metal { color, roughness } => {
            share(&what, color)?;
            within(&what, roughness, 0.0, 1.0)?;
        }
        scene::Material::Glass { color, ior } => {
            share(&what, color)?;
            within(&what, ior, 1.0, 10.0)?;
        }
        scene::Material::Emissive { color: light } => color(&what, light)?,
    }
    Ok(())
}

fn check_surroundings(scene: &Scene) -> Result<(), String> {
    let camera = &scene.camera;
    let view = place("the camera", camera.target)? - place("the camera", camera.position)?;
    if view.cross(Vec3::new(0.0, 1.0, 0.0)).length() < 1e-9 {
        return Err("the camera's target is at, above or below its position".to_owned());
    }
    within("the camera's fov", camera.fov, 1.0, 170.0)?;
    within("the camera's aperture", camera.aperture, 0.0, LARGEST)?;
    if let Some(focus) = camera.focus {
        positive("the camera's focus", focus)?;
    }
    positive("the exposure", scene.exposure)?;
    let sky = &scene.sky;
    for channels in [sky.zenith, sky.horizon, sky.sunset] {
        color("the colour of the sky", channels)?;
    }
    within("the sky's stars", sky.stars, 0.0, LARGEST)?;
    if place("the sun", sky.sun)?.length() < 1e-9 {
        return Err("the direction of the sun is zero".to_owned());
    }
    Ok(())
}
