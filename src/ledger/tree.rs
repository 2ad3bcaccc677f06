//! The Merkle tree over all lines of a log (RFC 6962 section 2.1, RFC 9162 section 2.1), grown line by line.
//!
//! A leaf is a line without its newline. Only the *frontier* is kept: the roots of the complete subtrees that the leaves so
//! far divide into, largest first; at most 53 of them. From a frontier the tree grows on without the leaves behind it, so
//! segments can be dropped and every later root still be computed. Pure: no file, no clock.

use super::line::sha256_of;

/// A node's digest.
pub type Hash = [u8; 32];

/// Domain separation of leaves (RFC 6962 section 2.1).
const LEAF: &[u8] = &[0];
/// And of nodes.
const NODE: &[u8] = &[1];

/// The digest of a leaf.
pub fn leaf(line: &[u8]) -> Hash {
    sha256_of(&[LEAF, line])
}

/// The digest of a node over its two children.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    sha256_of(&[NODE, left, right])
}

/// A tree as far as it has grown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    frontier: Vec<Hash>,
}

impl Tree {
    /// A tree of `size` leaves with this frontier; `None` if it can't be one.
    pub fn of(size: u64, frontier: Vec<Hash>) -> Option<Self> {
        (size.count_ones() as usize == frontier.len()).then_some(Tree { size, frontier })
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of its complete subtrees, largest first.
    pub fn frontier(&self) -> &[Hash] {
        &self.frontier
    }

    /// Takes the next leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // As many complete subtrees end here as the size has trailing ones.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.frontier.pop() {
                hash = node(&left, &hash);
            }
        }
        self.frontier.push(hash);
        self.size += 1;
    }

    /// The tree's head; of an empty one the digest of nothing.
    pub fn root(&self) -> Hash {
        let mut subtrees = self.frontier.iter().rev();
        let Some(last) = subtrees.next() else {
            return sha256_of(&[]);
        };
        subtrees.fold(*last, |right, left| node(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::line::hex;

    /// The eight leaves of the reference implementation's tests, and what they must give (RFC 6962's own project).
    #[test]
    fn known_trees_have_their_known_roots() {
        let leaves: [&[u8]; 8] = [
            b"",
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[
                0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d,
                0x6e, 0x6f,
            ],
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Tree::default();
        assert_eq!(hex(&tree.root()), roots[0]);
        for (line, root) in leaves.iter().zip(&roots[1..]) {
            tree.push(leaf(line));
            assert_eq!(hex(&tree.root()), *root, "at size {}", tree.size());
        }
    }

    #[test]
    fn a_tree_grows_on_from_its_frontier_alone() {
        let mut whole = Tree::default();
        for at in 0..300_u64 {
            let mut rest = Tree::of(whole.size(), whole.frontier().to_vec()).expect("its own");
            whole.push(leaf(&at.to_be_bytes()));
            rest.push(leaf(&at.to_be_bytes()));
            assert_eq!(rest, whole);
        }
        assert_eq!(Tree::of(3, vec![[0; 32]]), None);
    }
}
