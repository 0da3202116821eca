"""What each figure of ``metrics.json`` means, in words that go into the file itself."""

from __future__ import annotations

DEFINITIONS = {
    "two things called AP": (
        "matching.*.accuracy is TP / (TP + FP + FN) at one IoU threshold, which nucleus segmentation papers and "
        "the 2018 Data Science Bowl call average precision (AP). coco.*.AP is COCO's average precision: the area "
        "under the precision-recall curve that the predictions' scores make, averaged over IoU 0.50 to 0.95 and "
        "over classes. They are different figures; never compare one with the other."
    ),
    "matching": (
        "True and predicted objects are matched one to one where their IoU (shared pixels over pixels of either) "
        "reaches the threshold; of several ways the one with most matches, then with the largest IoU. tp: "
        "matched; fp: predicted, not matched; fn: true, not matched. Classes are ignored here. Equal to "
        "stardist.matching."
    ),
    "matching.pooled": (
        "Counts of all images are added up, then the figures are computed: every object weighs the same."
    ),
    "matching.mean_per_image": (
        "The figures of each image are averaged: every image weighs the same. An image without true and predicted "
        "objects counts as 0, as in stardist; images_without_objects says how many there are."
    ),
    "precision": "tp / (tp + fp)",
    "recall": "tp / (tp + fn)",
    "f1": "2 tp / (2 tp + fp + fn)",
    "accuracy": "tp / (tp + fp + fn)",
    "pq": "panoptic quality (Kirillov 2019): the IoU of all matched pairs added up, over tp + fp / 2 + fn / 2",
    "mean_matched_iou": "mean IoU of the matched pairs",
    "mean_accuracy_50_90": "mean of the pooled accuracy at the nine IoU thresholds 0.50, 0.55 … 0.90",
    "mean_accuracy_50_90_mean_per_image": "the same of the accuracy averaged over images",
    "aji": (
        "aggregated Jaccard index (Kumar 2017): pixels that true objects share with their best predictions, over "
        "the pixels that these cover together with all unused predictions; images added up"
    ),
    "aji_mean_per_image": "mean of each image's aggregated Jaccard index, images without any object left out",
    "pixels": (
        "Pixels, whatever object they belong to, of all images together. iou: per class, shared pixels over "
        "pixels of either side; mean_iou: mean over the classes with the background; pixel_accuracy: fraction of "
        "pixels of the right class; dice: 2 x shared over the sum of both sides, mean over the classes without "
        "the background"
    ),
    "classes": "Objects of one class matched with objects of the same class only.",
    "coco": (
        "COCO's average precision (AP) and recall (AR) of scored predictions by mask (segm) and by box (bbox); "
        "AP50 and AP75 at one IoU, APs, APm, APl by area of the true mask (areas, in square pixels), AR at the "
        "largest of max_dets"
    ),
    "confidence_intervals": (
        "[low, high] in place of each figure: the images were drawn again with replacement (resamples times), and "
        "this is the middle part (level) of the figures found. They tell how much the figure depends on which "
        "images happen to be in the test set, not how much it would change with another training"
    ),
    "groups": (
        "The same figures on the images that share a property, for each column of the data set's table with few values."
    ),
}
