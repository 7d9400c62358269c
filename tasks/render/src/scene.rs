//! A scene as its file says it. Colours are linear; lengths are in any one unit; y is up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A place, direction or linear colour.
pub type Triple = [f64; 3];

/// Spheres, triangles and glows in one scene.
pub const SHAPES_MAX: usize = 100_000;

/// What is to be seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// From where it is seen.
    pub camera: Camera,
    /// What is behind everything.
    pub sky: Sky,
    /// Multiplies all light before it becomes a colour of the screen.
    #[serde(default = "one")]
    pub exposure: f64,
    /// Materials by name.
    pub materials: BTreeMap<String, Material>,
    /// Spheres.
    #[serde(default)]
    pub spheres: Vec<Sphere>,
    /// Single triangles.
    #[serde(default)]
    pub triangles: Vec<Triangle>,
    /// Triangles that share corners.
    #[serde(default)]
    pub meshes: Vec<Mesh>,
    /// Balls of light that hide nothing: flames.
    #[serde(default)]
    pub glows: Vec<Glow>,
}

/// From where a scene is seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// Where the eye is.
    pub position: Triple,
    /// What is in the middle of the picture.
    pub target: Triple,
    /// The angle from the lower to the upper edge, in degrees.
    pub fov: f64,
    /// Radius of the lens; zero for a picture that is sharp everywhere.
    #[serde(default)]
    pub aperture: f64,
    /// Distance that is sharp; that of the target if absent.
    #[serde(default)]
    pub focus: Option<f64>,
}

/// What is behind everything: a gradient, the glow of a low sun and stars.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sky {
    /// Colour straight up.
    pub zenith: Triple,
    /// Colour at the horizon, and below it.
    pub horizon: Triple,
    /// Direction of the low sun.
    #[serde(default = "ahead")]
    pub sun: Triple,
    /// Colour that is added around the sun.
    #[serde(default)]
    pub sunset: Triple,
    /// How bright the brightest stars are; zero for none.
    #[serde(default)]
    pub stars: f64,
}

/// What a surface does with light.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "lowercase")]
pub enum Material {
    /// Scatters it in all directions.
    Diffuse {
        /// The share that it scatters.
        color: Triple,
        /// The other colour of a checked pattern in x and z.
        #[serde(default)]
        checker: Option<Triple>,
        /// Side of a square of the pattern.
        #[serde(default = "one")]
        scale: f64,
        /// The share that a clear coat mirrors at a right angle.
        #[serde(default)]
        shine: f64,
        /// How blurred the coat mirrors.
        #[serde(default)]
        roughness: f64,
    },
    /// Mirrors it.
    Metal {
        /// The share that it mirrors.
        color: Triple,
        /// How blurred, from 0 to 1.
        #[serde(default)]
        roughness: f64,
    },
    /// Mirrors some and lets the rest through, bent.
    Glass {
        /// The share that each surface lets through.
        color: Triple,
        /// Index of refraction.
        #[serde(default = "glass")]
        ior: f64,
    },
    /// Sends it out.
    Emissive {
        /// How much.
        color: Triple,
    },
}

/// A sphere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sphere {
    /// Its centre.
    pub at: Triple,
    /// Its radius.
    pub radius: f64,
    /// Name of its material.
    pub material: String,
}

/// A triangle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Triangle {
    /// Its corners.
    pub corners: [Triple; 3],
    /// Name of its material.
    pub material: String,
}

/// Triangles that share corners.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mesh {
    /// The corners.
    pub corners: Vec<Triple>,
    /// Three corners for each triangle, counted from zero.
    pub faces: Vec<[u32; 3]>,
    /// Name of their material.
    pub material: String,
}

/// A ball of light that hides nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Glow {
    /// Its centre.
    pub at: Triple,
    /// Its radius.
    pub radius: f64,
    /// Light sent out along each unit of length through it.
    pub color: Triple,
}

fn one() -> f64 {
    1.0
}

fn glass() -> f64 {
    1.5
}

fn ahead() -> Triple {
    [0.0, 0.0, -1.0]
}
