//! Parts of a map, on each backend.

#![allow(clippy::unwrap_used, missing_docs)]

use magpie_store::{Batch, Store};

#[tokio::test]
async fn a_part_of_a_map_is_read_from_either_end_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    for store in [Store::open(dir.path()).unwrap(), Store::memory()] {
        let map = store.map::<String>("words");
        let mut batch = Batch::new();
        for key in ["a", "a/", "a/1", "a/2", "a/3", "a0", "b/1"] {
            map.put(&mut batch, "ann", key, &key.to_owned());
        }
        map.put(&mut batch, "bob", "a/9", &"a/9".to_owned());
        store.commit(batch).await.unwrap();
        let keys = |page: Vec<(String, String)>| page.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(map.range("ann", "a/", None, 9).await.unwrap()), ["a/1", "a/2", "a/3"]);
        assert_eq!(keys(map.range("ann", "a/", Some("a/1"), 1).await.unwrap()), ["a/2"]);
        assert_eq!(keys(map.range("ann", "a/", Some("c"), 9).await.unwrap()), [""; 0]);
        assert_eq!(map.range("ann", "", None, 9).await.unwrap().len(), 7);
        assert_eq!(keys(map.range_back("ann", "a/", None, 2).await.unwrap()), ["a/3", "a/2"]);
        assert_eq!(keys(map.range_back("ann", "a/", Some("a/2"), 9).await.unwrap()), ["a/1"]);
        assert_eq!(keys(map.range_back("ann", "a/", Some("a"), 9).await.unwrap()), [""; 0]);
        assert_eq!(map.count("ann", "a/", None).await, Ok(3));
        assert_eq!(map.count("ann", "a/", Some("a/3")).await, Ok(2));
    }
}
