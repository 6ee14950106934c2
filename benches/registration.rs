//! Time of registration per frame, one thread. The work is asserted before it is timed.

#[path = "../tests/support/scene.rs"]
mod scene;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use haltere::model::parameters::{Piecewise, Registration};
use haltere::preprocess::piecewise::PiecewiseRegistrar;
use haltere::preprocess::registration::Registrar;
use scene::{Random, Scene, motion};

fn registration(criterion: &mut Criterion) {
    let parameters = Registration::default();
    for side in [128, 256, 512, 1024] {
        let (scene, mut random) = (Scene::new(1), Random(2));
        let truth = motion(8, &mut random)[7];
        let (template, frame) = (scene.image(side, side, [0.0; 2]), scene.exposure(side, truth, 2.0, &mut random));
        let mut registrar = Registrar::new(&parameters, side, side);
        registrar.set_template(&template);
        let shift = registrar.estimate(&frame);
        let error = (f64::from(shift.dy) - truth[0]).abs().max((f64::from(shift.dx) - truth[1]).abs());
        assert!(error < 0.3, "{side}×{side}: {shift:?} for {truth:?}");
        criterion.bench_function(&format!("estimate {side}×{side}"), |b| {
            b.iter(|| registrar.estimate(black_box(&frame)));
        });
        if side == 512 {
            let mut local = PiecewiseRegistrar::new(&parameters, &Piecewise::default(), side, side);
            local.set_template(&template);
            criterion.bench_function("piecewise 4×4 blocks, 512×512", |b| {
                b.iter(|| black_box(local.estimate(black_box(&frame), &shift)[0]));
            });
        }
    }
}

criterion_group!(benches, registration);
criterion_main!(benches);
