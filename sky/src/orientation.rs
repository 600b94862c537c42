//! Which side of a great circle a direction lies on, decided without rounding error.
//!
//! Ids of the triangular mesh must not depend on how a product was rounded: a star on the border of two trixels
//! gets the id that sphgeom gives it, on every machine.

use std::cmp::Ordering;

use crate::position::UnitVector;

/// A determinant of three unit vectors farther from 0 than this has the right sign: sphgeom's bound, a little
/// over 15 · 2^-53 (after Shewchuk 1997, Discrete & Computational Geometry 18, 305, section 4.3).
const CERTAIN: f64 = 1.7e-15;

/// The sign of a · (b × c): `Greater` where `a` lies to the left of the great circle from `b` to `c`, seen from
/// outside the sphere. Exact, but for products that fall below the smallest number there is.
pub(crate) fn orientation(a: UnitVector, b: UnitVector, c: UnitVector) -> Ordering {
    let determinant = a.x * (b.y * c.z - b.z * c.y) + a.y * (b.z * c.x - b.x * c.z) + a.z * (b.x * c.y - b.y * c.x);
    if determinant > CERTAIN {
        Ordering::Greater
    } else if determinant < -CERTAIN {
        Ordering::Less
    } else {
        exact_sign(a, b, c)
    }
}

fn exact_sign(a: UnitVector, b: UnitVector, c: UnitVector) -> Ordering {
    let products =
        [(a.x, b.y, c.z), (-a.x, b.z, c.y), (a.y, b.z, c.x), (-a.y, b.x, c.z), (a.z, b.x, c.y), (-a.z, b.y, c.x)];
    let mut sum = ExactSum::default();
    for (d, e, f) in products {
        let (high, low) = exact_product(e, f);
        for part in [high, low] {
            let (high, low) = exact_product(d, part);
            sum.add(low);
            sum.add(high);
        }
    }
    sum.sign()
}

/// A sum that loses nothing: six products of three numbers have four parts each.
#[derive(Default)]
struct ExactSum {
    /// Parts that do not overlap, the smallest first (Shewchuk's expansion).
    parts: [f64; 24],
    count: usize,
}

impl ExactSum {
    /// Adds a number; no more than 24 can be added.
    fn add(&mut self, value: f64) {
        let mut carry = value;
        for part in &mut self.parts[..self.count] {
            let sum = carry + *part;
            let virtual_part = sum - carry;
            let lost = (carry - (sum - virtual_part)) + (*part - virtual_part);
            *part = lost;
            carry = sum;
        }
        self.parts[self.count] = carry;
        self.count += 1;
    }

    /// The sign is that of the largest part that is not 0.
    fn sign(&self) -> Ordering {
        let largest = self.parts[..self.count].iter().rev().find(|part| **part != 0.0);
        largest.map_or(Ordering::Equal, |part| if *part > 0.0 { Ordering::Greater } else { Ordering::Less })
    }
}

/// A product as two numbers whose sum it is exactly.
fn exact_product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    (product, a.mul_add(b, -product))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Integers small enough that the determinant is exact in integer arithmetic, large enough that it is not in
    /// floating point.
    #[test]
    fn signs_are_those_of_integers() {
        let mut seed = 12_345_u64;
        let mut next = |spread: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            i128::from(seed >> 33) % i128::from(spread)
        };
        let (mut signs, mut close) = ([0; 3], 0);
        for _ in 0..20_000 {
            // The third is nearly in the plane of the other two.
            let [a, b] = [[1 << 30; 3], [1 << 29; 3]].map(|base: [i128; 3]| base.map(|k| k + next(1 << 28)));
            let c: [i128; 3] = std::array::from_fn(|i| 2 * a[i] - 3 * b[i] + next(3) - 1);
            let determinant = a[0] * (b[1] * c[2] - b[2] * c[1])
                + a[1] * (b[2] * c[0] - b[0] * c[2])
                + a[2] * (b[0] * c[1] - b[1] * c[0]);
            // Scaling by powers of two changes no digit.
            let vector = |v: [i128; 3]| {
                let [x, y, z] = v.map(|k| k as f64 / 2_f64.powi(33));
                UnitVector { x, y, z }
            };
            let sign = exact_sign(vector(a), vector(b), vector(c));
            assert_eq!(sign, determinant.cmp(&0), "{a:?} {b:?} {c:?}");
            signs[(sign as i8 + 1) as usize] += 1;
            close += i32::from((determinant as f64 / 2_f64.powi(99)).abs() < CERTAIN);
        }
        assert!(signs.iter().all(|count| *count > 10) && close > 500, "{signs:?} {close}");
    }
}
