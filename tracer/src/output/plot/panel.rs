//! One panel of a plot: a rectangle with its own range of values, on the common time axis.

use std::io;

use plotters::{
    coord::{Shift, cartesian::Cartesian2d, types::RangedCoordf64},
    drawing::DrawingArea,
    element::{
        Circle, Drawable, EmptyElement, PathElement, PointCollection, Polygon, Rectangle, Text,
        TriangleMarker,
    },
    prelude::SVGBackend,
    style::{
        Color as _, FontFamily, IntoFont as _, RGBColor, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::axis::moments;
use crate::cli::moments::Zone;

/// The width of a plot in pixels of the SVG; the page scales it.
pub const WIDTH: u32 = 960;
const LEFT: i32 = 66;
const RIGHT: i32 = WIDTH as i32 - 58;

/// Labels of time, at most.
const LABELS: usize = 9;

/// Greys that can be seen on a light and on a dark page.
const GRID: RGBColor = RGBColor(0x88, 0x88, 0x88);
/// The style sheet of a plot gives texts their colour.
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);

pub type Sheet<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plane = Cartesian2d<RangedCoordf64, RangedCoordf64>;

/// A rectangle with time on its x axis and values on its y axis.
pub struct Panel<'a> {
    area: DrawingArea<SVGBackend<'a>, Plane>,
    from: f64,
    to: f64,
    low: f64,
    high: f64,
    pub pixels: f64,
}

/// The side of a point on which its text stands.
#[derive(Clone, Copy)]
pub enum Side {
    Left,
    Right,
    Middle,
}

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("failed to draw: {error}"))
}

fn text_style(pixels: f64, h: HPos, v: VPos) -> TextStyle<'static> {
    let font = (FontFamily::SansSerif, pixels).into_font();
    TextStyle::from(font).color(&INK).pos(Pos::new(h, v))
}

impl<'a> Panel<'a> {
    /// A panel between two heights of the sheet, in pixels from its top.
    pub fn new(
        sheet: &Sheet<'a>,
        [from, to]: [f64; 2],
        [low, high]: [f64; 2],
        [top, bottom]: [i32; 2],
    ) -> Self {
        let plane = Plane::new(from..to, low..high, (LEFT..RIGHT, bottom..top));
        let pixels = f64::from(bottom - top);
        Self { area: sheet.clone().apply_coord_spec(plane), from, to, low, high, pixels }
    }

    /// The width of this length of time, in pixels.
    pub fn width(&self, seconds: f64) -> f64 {
        f64::from(RIGHT - LEFT) * seconds / (self.to - self.from)
    }

    /// The height of a value's distance from the bottom, in pixels.
    pub fn height(&self, value: f64) -> f64 {
        self.pixels * (value - self.low) / (self.high - self.low)
    }

    /// The difference between the panel's highest and lowest value.
    pub fn span(&self) -> f64 {
        self.high - self.low
    }

    fn put<E>(&self, element: E) -> io::Result<()>
    where
        for<'b> &'b E: PointCollection<'b, (f64, f64)>,
        E: Drawable<SVGBackend<'a>>,
    {
        self.area.draw(&element).map_err(failed)
    }

    /// A frame, with lines and labels of time below it if a zone is given.
    pub fn frame(&self, zone: Option<&Zone>) -> io::Result<()> {
        for at in moments([self.from, self.to], LABELS) {
            self.path(vec![(at, self.low), (at, self.high)], GRID, 0.25, 1)?;
            if let Some(zone) = zone {
                let style = text_style(14.0, HPos::Center, VPos::Top);
                let text = Text::new(zone.time(at), (0, 5), style);
                self.put(EmptyElement::at((at, self.low)) + text)?;
            }
        }
        let corners = [self.low, self.high].map(|y| vec![(self.from, y), (self.to, y)]);
        corners.into_iter().try_for_each(|line| self.path(line, GRID, 0.8, 1))
    }

    /// A line across, with a label at its left end.
    pub fn level(&self, value: f64, label: &str) -> io::Result<()> {
        self.path(vec![(self.from, value), (self.to, value)], GRID, 0.35, 1)?;
        self.say((self.from, value), label, Side::Left)
    }

    pub fn path(
        &self,
        points: Vec<(f64, f64)>,
        colour: RGBColor,
        opacity: f64,
        width: u32,
    ) -> io::Result<()> {
        self.put(PathElement::new(points, colour.mix(opacity).stroke_width(width)))
    }

    pub fn fill(&self, corners: Vec<(f64, f64)>, colour: RGBColor, opacity: f64) -> io::Result<()> {
        self.put(Polygon::new(corners, colour.mix(opacity)))
    }

    /// A band over the whole height of the panel.
    pub fn band(&self, [from, to]: [f64; 2], colour: RGBColor, opacity: f64) -> io::Result<()> {
        let (from, to) = (from.max(self.from), to.min(self.to));
        if from >= to {
            return Ok(());
        }
        let style: ShapeStyle = colour.mix(opacity).filled();
        self.put(Rectangle::new([(from, self.high), (to, self.low)], style))
    }

    pub fn triangle(&self, at: (f64, f64), colour: RGBColor) -> io::Result<()> {
        self.put(TriangleMarker::new(at, 5, colour.filled()))
    }

    pub fn circle(&self, at: (f64, f64), colour: RGBColor) -> io::Result<()> {
        self.put(Circle::new(at, 3, colour.filled()))
    }

    /// A text beside a point.
    pub fn say(&self, at: (f64, f64), text: &str, side: Side) -> io::Result<()> {
        let (h, x) = match side {
            Side::Left => (HPos::Right, -6),
            Side::Right => (HPos::Left, 6),
            Side::Middle => (HPos::Center, 0),
        };
        let text = Text::new(text.to_owned(), (x, 0), text_style(14.0, h, VPos::Center));
        self.put(EmptyElement::at(at) + text)
    }

    /// A text inside the panel, at its upper edge.
    pub fn say_at_top(&self, at: f64, text: &str) -> io::Result<()> {
        let text = Text::new(text.to_owned(), (0, 4), text_style(14.0, HPos::Center, VPos::Top));
        self.put(EmptyElement::at((at, self.high)) + text)
    }

    /// A text inside the panel, at its lower edge.
    pub fn say_at_bottom(&self, at: f64, text: &str) -> io::Result<()> {
        let style = text_style(14.0, HPos::Center, VPos::Bottom);
        self.put(EmptyElement::at((at, self.low)) + Text::new(text.to_owned(), (0, -5), style))
    }

    /// A text above the panel, from its left edge on.
    pub fn caption(&self, text: &str) -> io::Result<()> {
        let text = Text::new(text.to_owned(), (0, -5), text_style(14.0, HPos::Left, VPos::Bottom));
        self.put(EmptyElement::at((self.from, self.high)) + text)
    }
}
