#![allow(clippy::unwrap_used)]

use hearth::testing::Host;

use super::*;

const HEARTH: &str = include_str!("../scenes/hearth.json");

const SMALL: &str = r#"{
    "camera": {"position": [0, 1, 5], "target": [0, 0.5, 0], "fov": 40},
    "sky": {"zenith": [0.1, 0.2, 0.5], "horizon": [0.5, 0.5, 0.5]},
    "materials": {
        "floor": {"kind": "diffuse", "color": [0.5, 0.5, 0.5], "checker": [0.1, 0.1, 0.1], "shine": 0.04},
        "lamp": {"kind": "emissive", "color": [5, 4, 3]},
        "glass": {"kind": "glass", "color": [1, 1, 1]},
        "metal": {"kind": "metal", "color": [0.9, 0.8, 0.7], "roughness": 0.2}
    },
    "spheres": [
        {"at": [-1, 0.5, 0], "radius": 0.5, "material": "glass"},
        {"at": [1, 0.5, 0], "radius": 0.5, "material": "metal"},
        {"at": [0, 3, 0], "radius": 0.3, "material": "lamp"}
    ],
    "triangles": [{"corners": [[-20, 0, -20], [20, 0, -20], [0, 0, 20]], "material": "floor"}],
    "meshes": [{"corners": [[0, 0, -1], [1, 0, -1], [0, 1, -1]], "faces": [[0, 1, 2]], "material": "metal"}],
    "glows": [{"at": [0, 0.4, 0.5], "radius": 0.4, "color": [2, 1, 0.2]}]
}"#;

fn picture(width: u32, height: u32, side: u32, samples: u32, seed: u8) -> Vec<u8> {
    let picture = Picture {
        width,
        height,
        samples,
    };
    let outputs: Vec<Vec<u8>> = tile::inputs(SMALL, picture, side)
        .unwrap()
        .into_iter()
        .map(|input| {
            let mut host = Host::new().with_seed([seed; 32]);
            let output = host.run(|| run_payload(Payload::bytes(input))).unwrap();
            assert_eq!(output.media_type, "image/x-hearth-tile");
            output.body
        })
        .collect();
    tile::assemble(picture, side, &outputs).unwrap()
}

const EIGHT: Picture = Picture {
    width: 8,
    height: 8,
    samples: 1,
};

fn input() -> Input {
    Payload::bytes(tile::inputs(SMALL, EIGHT, 8).unwrap().remove(0))
        .to_json()
        .unwrap()
}

fn refused(input: Input) -> String {
    match run(input) {
        Err(Error::InvalidInput(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_picture_does_not_depend_on_its_tiles() {
    let whole = picture(30, 20, 64, 3, 1);
    assert_eq!(whole, picture(30, 20, 7, 3, 1));
    assert_ne!(whole, picture(30, 20, 64, 3, 2));
}

#[test]
fn the_same_bytes_as_ever() {
    // Changes of the renderer that change its pictures change this number; nothing else may.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in picture(48, 32, 16, 4, 0) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    assert_eq!(format!("{hash:016x}"), "092c92fe4e59c4dc");
}

#[test]
fn more_samples_come_nearer_to_the_picture() {
    let good = picture(24, 16, 24, 256, 0);
    let error = |samples| -> u64 {
        let rough = picture(24, 16, 24, samples, 9);
        rough
            .iter()
            .zip(&good)
            .map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2))
            .sum()
    };
    let (few, many) = (error(2), error(32));
    assert!(many * 4 < few, "{many} {few}");
}

/// A white room of light: a surface in it, of whatever material, is as bright as its colour says.
#[test]
fn light_is_neither_made_nor_lost() {
    let furnace = |material: &str| {
        let scene = format!(
            r#"{{"camera": {{"position": [0, 0, 4], "target": [0, 0, 0], "fov": 1}},
            "sky": {{"zenith": [0.2, 0.2, 0.2], "horizon": [0.2, 0.2, 0.2]}},
            "materials": {{"it": {material}}},
            "spheres": [{{"at": [0, 0, 0], "radius": 1, "material": "it"}}]}}"#
        );
        let scene: Scene = serde_json::from_str(&scene).unwrap();
        let tracer = Tracer::new(&scene).unwrap();
        let mut sum = 0.0;
        for sample in 0..4096 {
            let mut sampler = Sampler::new(&[3; 32], 0, sample, 4096);
            sum += tracer.camera_sample(1, 1, 0.5, 0.5, &mut sampler).y;
        }
        sum / 4096.0
    };
    for material in [
        r#"{"kind": "glass", "color": [1, 1, 1]}"#,
        r#"{"kind": "metal", "color": [1, 1, 1], "roughness": 0.5}"#,
        r#"{"kind": "diffuse", "color": [1, 1, 1], "shine": 0.1}"#,
    ] {
        let light = furnace(material);
        assert!((light - 0.2).abs() < 0.002, "{material}: {light}");
    }
    let half = furnace(r#"{"kind": "diffuse", "color": [0.5, 0.5, 0.5]}"#);
    assert!((half - 0.1).abs() < 0.001, "{half}");
}

/// Light drawn from lights equals light that is found by chance: both ways of seeing one lamp agree.
#[test]
fn drawn_light_is_as_bright_as_the_light_that_is_seen() {
    // A lamp of radius 1 straight above a floor at distance 3 gives it radiance · (1/3)² · π, of which a
    // white floor sends back 1/π.
    let scene = r#"{"camera": {"position": [0, 1, 0.01], "target": [0, 0, 0], "fov": 1},
        "sky": {"zenith": [0, 0, 0], "horizon": [0, 0, 0]},
        "materials": {"lamp": {"kind": "emissive", "color": [9, 9, 9]},
            "floor": {"kind": "diffuse", "color": [1, 1, 1]}},
        "spheres": [{"at": [0, 3, 0], "radius": 1, "material": "lamp"}],
        "triangles": [{"corners": [[-9, 0, -9], [9, 0, -9], [0, 0, 9]], "material": "floor"}]}"#;
    let scene: Scene = serde_json::from_str(scene).unwrap();
    let tracer = Tracer::new(&scene).unwrap();
    let mut sum = 0.0;
    for sample in 0..4096 {
        let mut sampler = Sampler::new(&[1; 32], 0, sample, 4096);
        sum += tracer.camera_sample(1, 1, 0.5, 0.5, &mut sampler).y;
    }
    let light = sum / 4096.0;
    assert!((light - 1.0).abs() < 0.02, "{light}");
}

#[test]
fn bad_input_is_refused_with_its_reason() {
    let tile = |change: fn(&mut Input)| {
        let mut input = input();
        change(&mut input);
        refused(input)
    };
    assert!(tile(|input| input.image.width = 0).contains("16384"));
    assert!(tile(|input| input.image.height = SIDE_MAX + 1).contains("16384"));
    assert!(tile(|input| input.image.samples = 0).contains("samples"));
    assert!(tile(|input| input.tile.x = 8).contains("not inside"));
    assert!(tile(|input| input.tile.height = 0).contains("not inside"));
    assert!(tile(|input| (input.tile.x, input.tile.width) = (1, u32::MAX)).contains("not inside"));
    assert!(
        tile(|input| {
            (input.image.width, input.image.height) = (SIDE_MAX, SIDE_MAX);
            (input.tile.width, input.tile.height) = (SIDE_MAX, SIDE_MAX);
        })
        .contains("pixels")
    );
    assert!(tile(|input| input.scene.spheres[0].material = "wood".into()).contains("wood"));
    assert!(tile(|input| input.scene.spheres[0].radius = -1.0).contains("radius"));
    assert!(tile(|input| input.scene.spheres[0].radius = f64::NAN).contains("radius"));
    assert!(tile(|input| input.scene.meshes[0].faces[0] = [0, 1, 9]).contains("corner 9"));
    assert!(tile(|input| input.scene.camera.target = [0.0, 1.0, 5.0]).contains("camera"));
    assert!(tile(|input| input.scene.exposure = f64::INFINITY).contains("exposure"));
    for body in ["", "{}", r#"{"width": 1}"#] {
        assert!(matches!(
            run_payload(Payload::bytes(body)),
            Err(Error::InvalidInput(_))
        ));
    }
}

#[test]
fn tiles_that_do_not_make_a_picture_are_told() {
    let scene = |text| tile::inputs(text, EIGHT, 8);
    assert!(matches!(scene("{}"), Err(TileError::Scene(_))));
    let unknown = SMALL.replace(r#""material": "lamp""#, r#""material": "moon""#);
    assert!(matches!(scene(&unknown), Err(TileError::Scene(_))));
    let empty = Picture { width: 0, ..EIGHT };
    assert!(matches!(tile::places(empty, 8), Err(TileError::Size(_))));
    assert!(matches!(tile::places(EIGHT, 0), Err(TileError::Size(_))));
    assert!(matches!(tile::places(EIGHT, 513), Err(TileError::Size(_))));

    let two = Picture {
        width: 3,
        height: 1,
        samples: 1,
    };
    let left = [&[2, 0, 0, 0, 1, 0, 0, 0][..], &[1, 2, 3, 4, 5, 6]].concat();
    let right = [&[1, 0, 0, 0, 1, 0, 0, 0][..], &[7, 8, 9]].concat();
    let whole = tile::assemble(two, 2, &[left.clone(), right.clone()]);
    assert_eq!(whole, Ok(vec![1, 2, 3, 4, 5, 6, 7, 8, 9]));
    let swapped = tile::assemble(two, 2, &[right.clone(), left.clone()]);
    assert_eq!(swapped, Err(TileError::NotTheTile(0)));
    let short = tile::assemble(two, 2, &[left.clone(), right[..10].to_vec()]);
    assert_eq!(short, Err(TileError::NotTheTile(1)));
    assert_eq!(tile::assemble(two, 2, &[left]), Err(TileError::Count(1)));
}

#[test]
fn the_hearth_is_a_scene() {
    let picture = Picture {
        width: 640,
        height: 400,
        samples: 24,
    };
    let inputs = tile::inputs(HEARTH, picture, 40).unwrap();
    assert_eq!(inputs.len(), 160);
    let input: Input = Payload::bytes(inputs[17].clone()).to_json().unwrap();
    assert_eq!(input.scene, serde_json::from_str(HEARTH).unwrap());
    assert_eq!((input.image, input.tile.x, input.tile.y), (picture, 40, 40));
}
