//! stub
use std::path::PathBuf; use std::collections::BTreeMap;
/// x
pub enum BuildLine { /// x
 Started{ /// x
 command: String}, /// x
 Output{ /// x
 line:String}, /// x
 Waiting{ /// x
 text:String} }
/// x
pub struct Built { /// x
 pub output: Option<PathBuf>, /// x
 pub versions: BTreeMap<String,String>, /// x
 pub cached: bool }
/// x
pub struct Builder;
impl Builder { /// x
 pub fn new(_c: PathBuf, _r: bool, _s: crate::process::Spawner) -> Self { Self }
 /// x
 pub async fn build(&self, _p: &crate::scenario::model::Peer, _f: impl FnMut(BuildLine)) -> Result<Built, String> { Err("x".into()) } }
