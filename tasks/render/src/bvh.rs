//! A tree of boxes over the shapes, so that a ray looks at few of them.

use crate::shape::{Bounds, Shape};
use crate::vector::{Ray, Vec3};

/// Shapes in a leaf: testing two costs about as much as one more box.
const LEAF: usize = 2;
/// Halving at the median bounds the depth by the logarithm of the count.
const DEPTH: usize = 64;

#[derive(Debug)]
enum Node {
    /// The first child is the next node; the other is at `second`.
    Fork {
        bounds: Bounds,
        second: u32,
        axis: u8,
    },
    Leaf {
        bounds: Bounds,
        first: u32,
        count: u32,
    },
}

/// Shapes and the tree over them.
#[derive(Debug)]
pub(crate) struct Bvh {
    nodes: Vec<Node>,
    shapes: Vec<Shape>,
}

/// A ray meets a shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit<'a> {
    pub(crate) distance: f64,
    pub(crate) shape: &'a Shape,
}

impl Bvh {
    pub(crate) fn new(mut shapes: Vec<Shape>) -> Self {
        let mut nodes = Vec::new();
        if !shapes.is_empty() {
            build(&mut nodes, &mut shapes, 0);
        }
        Self { nodes, shapes }
    }

    /// The nearest shape before `limit`.
    pub(crate) fn meet(&self, ray: &Ray, limit: f64) -> Option<Hit<'_>> {
        let d = ray.direction;
        let inverse = Vec3::new(1.0 / d.x, 1.0 / d.y, 1.0 / d.z);
        let mut nearest: Option<Hit<'_>> = None;
        let mut limit = limit;
        let mut waiting = [0u32; DEPTH];
        let mut depth = 0;
        let mut at = 0;
        if self.nodes.is_empty() {
            return None;
        }
        loop {
            let mut next = None;
            match &self.nodes[at] {
                Node::Fork {
                    bounds,
                    second,
                    axis,
                } => {
                    if bounds.enter(ray.origin, inverse, limit).is_some() {
                        let first = at as u32 + 1;
                        let (near, far) = if d.axis(usize::from(*axis)) < 0.0 {
                            (*second, first)
                        } else {
                            (first, *second)
                        };
                        waiting[depth] = far;
                        depth += 1;
                        next = Some(near);
                    }
                }
                Node::Leaf {
                    bounds,
                    first,
                    count,
                } => {
                    if bounds.enter(ray.origin, inverse, limit).is_some() {
                        for shape in &self.shapes[*first as usize..(*first + *count) as usize] {
                            if let Some(distance) = shape.form.meet(ray, limit) {
                                limit = distance;
                                nearest = Some(Hit { distance, shape });
                            }
                        }
                    }
                }
            }
            at = match next {
                Some(next) => next as usize,
                None if depth == 0 => return nearest,
                None => {
                    depth -= 1;
                    waiting[depth] as usize
                }
            };
        }
    }
}

/// Puts the tree over `shapes`, which start at `first` of all, behind the nodes that are there.
fn build(nodes: &mut Vec<Node>, shapes: &mut [Shape], first: u32) {
    let bounds = shapes.iter().fold(Bounds::EMPTY, |bounds, shape| {
        bounds.join(shape.form.bounds())
    });
    let at = nodes.len();
    nodes.push(Node::Leaf {
        bounds,
        first,
        count: shapes.len() as u32,
    });
    if shapes.len() <= LEAF {
        return;
    }
    let (axis, middle) = split(shapes);
    let (left, right) = shapes.split_at_mut(middle);
    build(nodes, left, first);
    let second = nodes.len() as u32;
    build(nodes, right, first + middle as u32);
    nodes[at] = Node::Fork {
        bounds,
        second,
        axis,
    };
}

/// Sorts along the axis on which a cut leaves the least surface, and says where to cut. Cuts are kept
/// within the middle half, so that the depth stays logarithmic.
fn split(shapes: &mut [Shape]) -> (u8, usize) {
    let count = shapes.len();
    let margin = count / 4;
    let mut best = (f64::INFINITY, 0u8, count / 2);
    let mut behind = vec![0.0; count];
    for axis in 0..3u8 {
        sort(shapes, axis);
        let mut bounds = Bounds::EMPTY;
        for (index, shape) in shapes.iter().enumerate().rev() {
            bounds = bounds.join(shape.form.bounds());
            behind[index] = bounds.surface() * (count - index) as f64;
        }
        let mut bounds = Bounds::EMPTY;
        for (index, shape) in shapes.iter().enumerate() {
            if index > 0 && index >= margin && index <= count - margin {
                let cost = bounds.surface() * index as f64 + behind[index];
                if cost < best.0 {
                    best = (cost, axis, index);
                }
            }
            bounds = bounds.join(shape.form.bounds());
        }
    }
    let (_, axis, middle) = best;
    sort(shapes, axis);
    (axis, middle)
}

fn sort(shapes: &mut [Shape], axis: u8) {
    let key = |shape: &Shape| shape.form.bounds().center().axis(usize::from(axis));
    // Stable, and a total order: the tree is the same everywhere.
    shapes.sort_by(|a, b| key(a).total_cmp(&key(b)));
}
