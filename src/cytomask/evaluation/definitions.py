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
        "pixels of either side; mean_iou: mean over the classes with the background; foreground_iou: IoU of the "
        "pixels of any object, whatever its class; pixel_accuracy: fraction of pixels of the right class; dice: "
        "2 x shared over the sum of both sides, mean over the classes without the background. Pixels of crowd "
        "regions are left out"
    ),
    "pixels.mean_per_image": (
        "The pixel figures of each image, averaged: every image weighs the same. Images in which a class has no "
        "pixel on either side are left out of its mean, and those without any object out of that of foreground_iou "
        "(where they count as 0, the mean is lower: images_without_objects says how many there are)"
    ),
    "boundary": (
        "Outlines of the objects, also where two touch. precision: fraction of the predicted outlines' pixels with a "
        "true outline at most tolerance_px pixels away; recall: of the true outlines' with a predicted one; f1: their "
        "harmonic mean (Csurka 2013). pooled: pixels of all images added up; mean_per_image: averaged"
    ),
    "error_kinds": (
        "Every true and every predicted object has exactly one kind, the first that fits. An object lies mainly in "
        "another if more than half of its pixels do. hit: matched at an IoU of 0.5 (kind_threshold). merged: a "
        "prediction in which two true objects or more mainly lie, and true objects that mainly lie in such a "
        "prediction. split: a true object in which two predictions or more mainly lie that together cover more than "
        "half of it, and predictions that mainly lie in such an object. poor: of those left, matched one to one at an "
        "IoU of 0.1 or more: found, with a wrong outline. missed and spurious: the rest"
    ),
    "by_size": (
        "True objects in bins of equally many by diameter_px, the diameter of the circle of the same area: recall is "
        "the fraction of hits at an IoU of 0.5, mean_iou the mean of each object's largest IoU with any prediction "
        "(0 without), kinds what became of them"
    ),
    "by_group": "The headline figures of each group of images, with their intervals; groups has all figures.",
    "curves": (
        "accuracy, f1, precision and recall of all images together at each of iou, the IoU that is asked for; "
        "precision_recall: what lowering the score threshold does at IoU 0.50 and 0.75 (masks, matched as in COCO)"
    ),
    "integrated_ap": (
        "Precision added up over recall while the IoU that is asked for grows: the sum of p_i (r_i - r_i+1) over 20 "
        "thresholds from 0 to 1, with the counts of all images (overall) or of those of a group added up; mean: over "
        "the groups of a property, each weighing the same. Behind the last threshold the recall is 0. Some nucleus "
        "pipelines call it mAP; no scores take part, so it is neither COCO's AP nor the accuracy at one IoU"
    ),
    "annotators": (
        "Each annotator compared with the prediction, then the annotators with each other: their agreement (ceiling: "
        "its mean) is what a prediction (model: its mean) can be asked for. Figures do not depend on who is first; the "
        "aggregated Jaccard index is averaged over both ways. error_kinds take the first for the truth; alone: with no "
        "counterpart"
    ),
    "classes": "Objects of one class matched with objects of the same class only. Classes are matched by their names.",
    "coco": (
        "COCO's average precision (AP) and recall (AR) of scored predictions by mask (segm) and by box (bbox); "
        "AP50 and AP75 at one IoU, APs, APm, APl by area of the true mask (areas, in square pixels; by default "
        "LIVECell's, cut at 18 and 31 squared, not COCO's, cut at 32 and 96 squared), AR at the largest of max_dets, "
        "the number of an image's predictions that count. Equal to pycocotools"
    ),
    "confidence_intervals": (
        "[low, high] in place of each figure: the images were drawn again with replacement (resamples times), and "
        "this is the middle part (level) of the figures found. They tell how much the figure depends on which "
        "images happen to be in the test set, not how much it would change with another training"
    ),
    "groups": (
        "The same figures on the images that share a property, for each column of the data set's table with few "
        "values, or those that were asked for."
    ),
}
