//! L-BFGS: the minimum of a smooth convex function of many variables, from its gradients alone.
//!
//! Why it exists: a linear probe has a thousand weights and one optimum, and one table needs many probes. What it must never do:
//! return a point that is worse than its start by more than rounding. Source: Nocedal & Wright, *Numerical Optimization*, 2006,
//! algorithms 7.4 and 7.5; the line search brackets and bisects until the weak Wolfe conditions hold.

use std::collections::VecDeque;

/// Number of pairs of steps and gradient changes that are kept.
const MEMORY: usize = 10;
/// Share of the predicted decrease that a step must achieve.
const DECREASE: f64 = 1e-4;
/// Share of the slope that may remain after a step.
const CURVATURE: f64 = 0.9;
/// Relative change of the value that may be rounding (products in f32): below it the slopes alone decide, as in Hager & Zhang
/// 2005, section 3.
const ROUNDING: f64 = 1e-7;
/// Trials of one line search; the bracket is then 2⁻³⁰ of its start.
const TRIALS: usize = 30;

/// How a minimisation ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Value at the end.
    pub value: f64,
    /// Largest component of the gradient at the end.
    pub gradient_max: f64,
    /// Steps taken.
    pub iterations: usize,
    /// True when `gradient_max` fell under the tolerance. False: out of iterations, or rounding allows no further descent.
    pub converged: bool,
}

/// A point, its value and its gradient.
struct Point {
    at: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

/// One remembered step: change of the point, change of the gradient, 1 / their product, and how far the guess of the inverse
/// Hessian was off along it.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    inverse: f64,
    scale: f64,
}

/// Minimises `function` from `start`, which becomes the minimum. `function(x, gradient)` returns the value at x and fills the
/// gradient; `precondition` multiplies a gradient by a guess of the inverse Hessian (symmetric, positive), or leaves it as it is.
/// Ends when no component of the gradient exceeds `tolerance`, or after `iterations_max` steps.
pub fn minimise(
    start: &mut Vec<f64>,
    tolerance: f64,
    iterations_max: usize,
    precondition: impl Fn(&mut [f64]),
    mut function: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Outcome {
    let mut gradient = vec![0.0; start.len()];
    let value = function(start, &mut gradient);
    let mut now = Point { at: std::mem::take(start), value, gradient };
    let mut pairs = VecDeque::with_capacity(MEMORY);
    let mut iterations = 0;
    while iterations < iterations_max && largest(&now.gradient) > tolerance {
        let direction = direction(&pairs, &now.gradient, &precondition);
        // Without memory, the length of the direction says little about the distance to the minimum.
        let first = if pairs.is_empty() { (1.0 / norm(&direction)).min(1.0) } else { 1.0 };
        let Some(next) = search(&now, &direction, first, &mut function) else {
            if pairs.is_empty() {
                break;
            }
            pairs.clear();
            continue;
        };
        remember(&mut pairs, &now, &next, &precondition);
        now = next;
        iterations += 1;
    }
    let gradient_max = largest(&now.gradient);
    *start = now.at;
    Outcome { value: now.value, gradient_max, iterations, converged: gradient_max <= tolerance }
}

/// −H·gradient by the two-loop recursion.
fn direction(pairs: &VecDeque<Pair>, gradient: &[f64], precondition: &impl Fn(&mut [f64])) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let alpha = pair.inverse * dot(&pair.step, &q);
        add_scaled(&mut q, -alpha, &pair.change);
        alphas.push(alpha);
    }
    precondition(&mut q);
    if let Some(last) = pairs.back() {
        q.iter_mut().for_each(|v| *v *= last.scale);
    }
    for (pair, alpha) in pairs.iter().zip(alphas.iter().rev()) {
        let beta = pair.inverse * dot(&pair.change, &q);
        add_scaled(&mut q, alpha - beta, &pair.step);
    }
    q
}

/// A point along `direction` that fulfils the weak Wolfe conditions, or at least descends; `None` when nothing does.
fn search(
    from: &Point,
    direction: &[f64],
    first: f64,
    function: &mut impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Option<Point> {
    let slope = dot(&from.gradient, direction);
    if slope >= 0.0 || !slope.is_finite() {
        return None;
    }
    let (mut low, mut high, mut step) = (0.0, f64::INFINITY, first);
    let mut descended = None;
    for _ in 0..TRIALS {
        let at: Vec<f64> = from.at.iter().zip(direction).map(|(x, d)| x + step * d).collect();
        let mut gradient = vec![0.0; at.len()];
        let value = function(&at, &mut gradient);
        let left = dot(&gradient, direction);
        // A value that is not finite is not smaller either.
        let falls = value < from.value && value <= from.value + DECREASE * step * slope;
        let level = (value - from.value).abs() <= ROUNDING * from.value.abs();
        if !(falls || level && left <= (2.0 * DECREASE - 1.0) * slope) {
            high = step;
        } else {
            let point = Point { at, value, gradient };
            if left >= CURVATURE * slope {
                return Some(point);
            }
            descended = Some(point);
            low = step;
        }
        step = if high.is_finite() { 0.5 * (low + high) } else { 2.0 * step };
    }
    descended
}

fn remember(pairs: &mut VecDeque<Pair>, now: &Point, next: &Point, precondition: &impl Fn(&mut [f64])) {
    let step: Vec<f64> = next.at.iter().zip(&now.at).map(|(b, a)| b - a).collect();
    let change: Vec<f64> = next.gradient.iter().zip(&now.gradient).map(|(b, a)| b - a).collect();
    let product = dot(&step, &change);
    // A pair without curvature comes from rounding and would turn the next direction around.
    if product <= 1e-12 * norm(&step) * norm(&change) {
        return;
    }
    if pairs.len() == MEMORY {
        pairs.pop_front();
    }
    let mut guess = change.clone();
    precondition(&mut guess);
    let scale = product / dot(&change, &guess);
    pairs.push_back(Pair { step, change, inverse: 1.0 / product, scale });
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn largest(a: &[f64]) -> f64 {
    a.iter().fold(0.0, |most, v| v.abs().max(most))
}

fn add_scaled(a: &mut [f64], scale: f64, b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += scale * b);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_of_a_stretched_bowl_is_found() {
        // Σ kᵢ (xᵢ − i)², k from 1 to 10⁴.
        let stiffness = |i: usize| 10f64.powf(i as f64 / 2.0);
        let mut x = vec![0.0; 9];
        let outcome = minimise(
            &mut x,
            1e-8,
            200,
            |_| {},
            |x, g| {
                g.iter_mut().enumerate().for_each(|(i, g)| *g = 2.0 * stiffness(i) * (x[i] - i as f64));
                x.iter().enumerate().map(|(i, v)| stiffness(i) * (v - i as f64).powi(2)).sum()
            },
        );
        assert!(outcome.converged, "{outcome:?}");
        assert!(x.iter().enumerate().all(|(i, v)| (v - i as f64).abs() < 1e-7), "{x:?}");
    }

    #[test]
    fn a_good_guess_of_the_hessian_saves_steps() {
        // Σ 10ⁱ (xᵢ − 1)² / 2 + Σ (xᵢ − 1)⁴, the guess right at the end.
        let stiffness = |i: usize| 10f64.powi(i as i32);
        let run = |guess: bool| {
            let precondition = |v: &mut [f64]| {
                v.iter_mut().enumerate().filter(|_| guess).for_each(|(i, v)| *v /= stiffness(i));
            };
            let mut x = vec![0.0; 6];
            let outcome = minimise(&mut x, 1e-8, 500, precondition, |x, g| {
                let away = |i: usize| x[i] - 1.0;
                g.iter_mut().enumerate().for_each(|(i, g)| *g = stiffness(i) * away(i) + 4.0 * away(i).powi(3));
                (0..6).map(|i| 0.5 * stiffness(i) * away(i).powi(2) + away(i).powi(4)).sum()
            });
            assert!(outcome.converged && x.iter().all(|v| (v - 1.0).abs() < 1e-6), "{x:?} {outcome:?}");
            outcome.iterations
        };
        assert!(2 * run(true) < run(false), "{} {}", run(true), run(false));
    }

    #[test]
    fn the_banana_of_rosenbrock_is_followed_to_its_end() {
        let mut x = vec![-1.2, 1.0];
        let outcome = minimise(
            &mut x,
            1e-9,
            200,
            |_| {},
            |x, g| {
                let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
                g[0] = -2.0 * a - 400.0 * x[0] * b;
                g[1] = 200.0 * b;
                a * a + 100.0 * b * b
            },
        );
        assert!(outcome.converged && outcome.iterations < 100, "{outcome:?}");
        assert!((x[0] - 1.0).abs() < 1e-8 && (x[1] - 1.0).abs() < 1e-8, "{x:?}");
    }

    #[test]
    fn a_function_that_gives_no_number_leaves_the_start_as_it_was() {
        let mut x = vec![3.0];
        let outcome = minimise(
            &mut x,
            1e-9,
            10,
            |_| {},
            |x, g| {
                g[0] = 1.0;
                if x[0] == 3.0 { 1.0 } else { f64::NAN }
            },
        );
        assert_eq!((x[0], outcome.iterations, outcome.converged), (3.0, 0, false));
    }
}
